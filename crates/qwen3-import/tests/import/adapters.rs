//! LoRA adapters: read, put on models, merged, taken out again, saved; and what is refused.

use std::collections::BTreeMap;
use std::fs;

use burn::module::{Lora, Module, ParamGroup};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_checkpoint::Checkpoint;
use qwen3_import::{
    Adapter, AdapterConfig, CheckpointSource, Factors, ImportError, Target, TargetModules, adapter_of,
    attach_adapter, load_record, merge_adapter, save_record, unmerge_adapter,
};
use qwen3_model::{Kernel, Parts, Qwen3, Qwen3Config, Streamed};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::*;
use crate::compare::*;

pub const CONFIG: &str = "adapter_config.json";
pub const ADAPTER: &str = "adapter_model.safetensors";
pub const RANK: usize = 3;
const ALPHA: f64 = 2.0;
const PREFIX: &str = "base_model.model.model.layers";

/// What PEFT writes of an adapter on every linear map.
pub fn adapter_config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "some/model", "r": RANK,
        "lora_alpha": ALPHA, "lora_dropout": 0.1, "bias": "none", "fan_in_fan_out": false, "use_rslora": false,
        "use_dora": false, "init_lora_weights": true, "inference_mode": true, "modules_to_save": null,
        "layers_to_transform": null, "rank_pattern": {}, "alpha_pattern": {}, "loftq_config": {},
        "megatron_core": "megatron.core", "qalora_group_size": 16, "peft_version": "0.21.2", "lora_bias": false,
        "target_modules": Target::ALL.map(Target::name),
    })
}

/// `[out, in]` of a linear map of [`config`].
fn shape(target: Target) -> [usize; 2] {
    let key = format!("model.layers.0.{}.weight", target.path());
    tensors(false)[&key].shape.clone().try_into().unwrap()
}

pub fn key(layer: usize, target: Target, half: &str) -> String {
    format!("{PREFIX}.{layer}.{}.lora_{half}.weight", target.path())
}

/// Numbers that follow no pattern.
pub fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + 31 * seed) as f32 + 0.5) * 12.9898).sin() * 0.4).collect()
}

/// The factors of every linear map in both layers.
pub fn factors() -> Tensors {
    let mut all = Tensors::new();
    for layer in 0..2 {
        for (place, target) in Target::ALL.into_iter().enumerate() {
            let ([out, input], seed) = (shape(target), 2 * (layer * 7 + place));
            let half = |rows, columns, seed| {
                Stored::new(Dtype::F32, &[rows, columns], &values(rows * columns, seed))
            };
            all.insert(key(layer, target, "A"), half(RANK, input, seed));
            all.insert(key(layer, target, "B"), half(out, RANK, seed + 1));
        }
    }
    all
}

pub fn folder(config: &Value, factors: &Tensors) -> Folder {
    Folder::new(&json!({})).write(CONFIG, config.to_string()).write(ADAPTER, safetensors(factors))
}

/// The folder's adapter, if it is one for the tests' model.
pub fn open(folder: &Folder) -> Result<Adapter, ImportError> {
    let model = Qwen3Config::from_json(&config(false).to_string()).unwrap();
    Ok(Adapter::open(folder.dir(), &model)?)
}

/// The checkpoint's tensors with `sign * scale * B A` added in float64 to every weight that has factors.
fn with_changes(mut base: Tensors, factors: &Tensors, scale: f64) -> BTreeMap<String, Vec<f64>> {
    let mut changed: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, a) in factors.iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
        let b = factors[&name.replace("lora_A", "lora_B")].values();
        let module = name.strip_prefix("base_model.model.").unwrap().strip_suffix(".lora_A.weight").unwrap();
        let weight = base.remove(&format!("{module}.weight")).unwrap();
        let (a, [rank, input]) = (a.values(), [a.shape[0], a.shape[1]]);
        let sum = weight.values().into_iter().enumerate().map(|(flat, w)| {
            let (row, column) = (flat / input, flat % input);
            let change: f64 =
                (0..rank).map(|r| f64::from(b[row * rank + r]) * f64::from(a[r * input + column])).sum();
            f64::from(w) + scale * change
        });
        changed.insert(format!("{module}.weight"), sum.collect());
    }
    changed
}

/// The same as a checkpoint.
fn merged_folder(factors: &Tensors, scale: f64) -> Folder {
    let mut all = tensors(false);
    for (key, values) in with_changes(tensors(false), factors, scale) {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        let shape = all[&key].shape.clone();
        all.insert(key, Stored::new(Dtype::F32, &shape, &values));
    }
    Folder::with(false, &all)
}

fn logits(model: &Qwen3) -> Vec<f32> {
    let ids = TensorData::new(vec![3_i64, 1, 4, 1, 5, 9, 2, 6], [2, 4]);
    let ids = Tensor::<2, Int>::from_data(ids, &model.device());
    model.forward(ids).into_data().convert::<f32>().try_into_vec().unwrap()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance * largest, "{found} for {expected}");
    }
}

/// Unmerged, merged, streamed and as a record: all are the model whose weights have the change in them.
#[test]
fn an_adapter_is_added_to_the_weights() {
    let mut rslora = adapter_config();
    rslora["use_rslora"] = json!(true);
    let mut few = adapter_config();
    few["target_modules"] = json!(r".*\.1\.mlp\.(up|down)_proj");
    let only_few = |name: &String| name.contains(".1.mlp.up_proj") || name.contains(".1.mlp.down_proj");
    let few_factors: Tensors = factors().into_iter().filter(|(name, _)| only_few(name)).collect();
    for (config, factors, scale) in [
        (adapter_config(), factors(), ALPHA / RANK as f64),
        (rslora, factors(), ALPHA / (RANK as f64).sqrt()),
        (few, few_factors, ALPHA / RANK as f64),
    ] {
        let expected = logits(&merged_folder(&factors, scale).load(DType::F32).unwrap());
        let lora = folder(&config, &factors);
        let adapter = open(&lora).unwrap();
        let base = Folder::plain();
        let plain = base.load(DType::F32).unwrap();
        assert!(logits(&plain).iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-3), "the adapter shows");
        for kernel in [Kernel::Fast, Kernel::Reference] {
            let model = attach_adapter(plain.clone().with_kernel(kernel), &adapter).unwrap();
            assert_near(&logits(&model), &expected, 2e-6);
            let merged = merge_adapter(model.clone());
            assert_near(&logits(&merged), &expected, 2e-6);
            assert_eq!(parameters(&merged).len(), tensors(false).len());
            let record = base.path("model.bpk");
            save_record(&model, &record, DType::F32).unwrap();
            assert_same(&load_record(&record, &Device::flex(), DType::F32).unwrap(), &merged);
        }
        // A layer at a time, as `verify` does.
        let checkpoint = Checkpoint::open(base.dir()).unwrap().with_adapter(lora.dir()).unwrap();
        let source = CheckpointSource::new(&checkpoint, &Device::flex(), DType::F32).unwrap();
        let mut streamed = Streamed::new(source, checkpoint.config());
        let whole = attach_adapter(plain.clone(), &adapter).unwrap();
        for index in 0..2 {
            let (layer, own) = (streamed.layer(index).unwrap(), &whole.model.layers[index]);
            for target in Target::ALL {
                let weight = |layer: &qwen3_model::DecoderLayer| {
                    layer.linear(target.path()).unwrap().weight.val().into_data()
                };
                assert_eq!(weight(layer), weight(own), "{index} {target:?}");
            }
        }
        // A new adapter takes the place of the old one.
        let twice = attach_adapter(whole, &adapter).unwrap();
        assert_near(&logits(&twice), &expected, 2e-6);
    }
}

/// Merged weights are the sum rounded once, and taking it out again gives the weights back, up to the rounding of sums.
#[test]
fn merging_is_exact_to_rounding() {
    let scale = ALPHA / RANK as f64;
    let adapter = open(&folder(&adapter_config(), &factors())).unwrap();
    for (dtype, stored, unit) in
        [(DType::F32, Dtype::F32, 2.0_f64.powi(-24)), (DType::BF16, Dtype::BF16, 2.0_f64.powi(-8))]
    {
        let rounded: Tensors =
            tensors(false).iter().map(|(key, it)| (key.clone(), it.cast(stored))).collect();
        let model = Folder::with(false, &rounded).load(dtype).unwrap();
        let expected = with_changes(rounded.clone(), &factors(), scale);
        let merged = merge_adapter(attach_adapter(model.clone(), &adapter).unwrap());
        let back = unmerge_adapter(merged.clone(), &adapter).unwrap();
        for (key, (found, _, bytes)) in parameters(&merged) {
            assert_eq!(found, dtype, "{key}");
            let Some(expected) = expected.get(&key) else {
                let own = parameters(&model);
                assert_eq!(bytes, own[&key].2, "{key} has no adapter");
                continue;
            };
            // Half a unit in the last place of the sum, and what the product is off by in f32.
            for (found, expected) in crate::common::values(stored, &bytes).into_iter().zip(expected) {
                let off = (f64::from(found) - expected).abs();
                assert!(off <= unit * expected.abs() + 2.0_f64.powi(-22), "{key}: {found} for {expected}");
            }
        }
        for (index, layer) in back.model.layers.iter().enumerate() {
            for target in Target::ALL {
                let key = format!("model.layers.{index}.{}.weight", target.path());
                let base = layer.linear(target.path()).unwrap().weight.base().into_data().convert::<f32>();
                let base = base.iter::<f32>().collect::<Vec<_>>();
                for ((found, own), sum) in base.into_iter().zip(rounded[&key].values()).zip(&expected[&key]) {
                    let off = f64::from((found - own).abs());
                    let limit = 2.0 * unit * (sum.abs() + f64::from(own.abs())) + 2.0_f64.powi(-21);
                    assert!(off <= limit, "{key}: {found} for {own}");
                }
            }
        }
        // It is on the model again.
        let unmerged = attach_adapter(model, &adapter).unwrap();
        assert_near(&logits(&back), &logits(&unmerged), 4096.0 * unit as f32);
    }
}

/// Factors in half precision, and keys as they have been spelled, are the same adapter.
#[test]
fn other_spellings_are_read() {
    let expected = open(&folder(&adapter_config(), &factors())).unwrap();
    let same = |found: &Adapter| assert!(found.all().eq(expected.all()));
    let spelled = |from: &str, to: &str| -> Tensors {
        factors().into_iter().map(|(key, stored)| (key.replace(from, to), stored)).collect()
    };
    same(&open(&folder(&adapter_config(), &spelled(".weight", ".default.weight"))).unwrap());
    same(&open(&folder(&adapter_config(), &spelled("model.model.layers", "model.layers"))).unwrap());
    for dtype in [Dtype::F16, Dtype::BF16] {
        let half: Tensors = factors().iter().map(|(key, it)| (key.clone(), it.cast(dtype))).collect();
        let found = open(&folder(&adapter_config(), &half)).unwrap();
        let own = found.factors(1, Target::OProj).unwrap();
        assert_eq!(own.a, half[&key(1, Target::OProj, "A")].values());
        assert_eq!((own.shape(), own.rank), ([8, 16], RANK));
    }
    for (field, value) in [
        ("target_modules", json!("all-linear")),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!(false)),
        ("exclude_modules", json!(["lm_head"])),
        ("lora_alpha", json!(2)),
        ("something_new", json!(null)),
    ] {
        let mut config = adapter_config();
        config[field] = value;
        same(&open(&folder(&config, &factors())).unwrap());
    }
    let mut config = adapter_config();
    config["exclude_modules"] = json!("model.layers.0.*");
    let upper: Tensors = factors().into_iter().filter(|(key, _)| key.contains(".1.")).collect();
    open(&folder(&config, &upper)).unwrap();
    let both = folder(&config, &factors());
    let stray = format!(
        "{} of model.layers.0.self_attn.q_proj, not a module that target_modules names",
        key(0, Target::QProj, "A")
    );
    both.blames(open(&both), "NoSuchModule", ADAPTER, &stray);
}

/// What [`adapter_of`] takes from a model, and [`Adapter::save`] writes, is the adapter that was put on it.
#[test]
fn an_adapter_is_saved_as_it_was() {
    let mut config = adapter_config();
    config["use_rslora"] = json!(true);
    let adapter = open(&folder(&config, &factors())).unwrap();
    let model = attach_adapter(Folder::plain().load(DType::F32).unwrap(), &adapter).unwrap();
    let again = adapter_of(&model, adapter.config().clone());
    let place = tempfile::tempdir().unwrap();
    let place = place.path().join("new/adapter");
    for _ in 0..2 {
        again.save(&place).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [CONFIG, ADAPTER]);
    }
    let read = Adapter::open(&place, &model.config).unwrap();
    assert!(read.all().eq(adapter.all()));
    assert_eq!(read.config().scale(), adapter.config().scale());
    assert_eq!(read.config().base_model.as_deref(), Some("some/model"));
    // A folder that cannot be written keeps nothing unfinished.
    let file = place.join("file");
    fs::write(&file, "").unwrap();
    assert!(again.save(&file).is_err());
    let taken = place.join("taken");
    fs::create_dir_all(taken.join(ADAPTER)).unwrap();
    assert!(again.save(&taken).is_err());
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
}

/// An adapter that Burn's own `apply_lora` put on the model is PEFT's: `a` is `lora_B`, `b` is `lora_A`.
#[test]
fn burns_own_lora_is_taken_over() {
    let model = Folder::plain().load(DType::F32).unwrap();
    let expected = logits(&model);
    let targets = [Target::QProj, Target::VProj];
    let group = ParamGroup::from_any_predicates(vec!["q_proj.weight", "v_proj.weight"]);
    let model = model.apply_lora(Lora::new(RANK, ALPHA).set_param_group(group));
    let config = AdapterConfig::new(RANK, ALPHA, TargetModules::of(&targets));
    let adapter = adapter_of(&model, config);
    adapter.check(&model.config).unwrap();
    assert_eq!(adapter.all().count(), 4);
    for (_, target, Factors { a, b, rank }) in adapter.all() {
        let [out, input] = shape(target);
        assert_eq!((a.len(), b.len(), *rank), (RANK * input, out * RANK, RANK), "{target:?}");
        // Burn draws the factor that is applied last, where PEFT draws the first: nothing is added in either.
        assert!(a.iter().all(|value| *value == 0.0) && b.iter().any(|value| *value != 0.0));
    }
    assert_eq!(logits(&model), expected);
}
