//! The tiny presets with random weights: every shape follows from the config, both loaders give the same
//! bits and the same numbers, and a transposition or a wrong grouping of heads shows in them.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_import::{load_record, save_record};
use qwen3_model::{FeedForwardKind, Qwen3, Qwen3Config, RandomWeights};
use safetensors::Dtype;

use crate::common::*;
use crate::compare::*;
use crate::hostile_records::{RECORD, entry, rewrite};

const BATCH: usize = 2;
const SEQ: usize = 12;

pub fn presets() -> [(&'static str, Qwen3Config); 10] {
    [
        ("tiny", Qwen3Config::tiny()),
        ("tiny_mha", Qwen3Config::tiny_mha()),
        ("tiny_untied", Qwen3Config::tiny_untied()),
        ("tiny_biased", Qwen3Config::tiny_biased()),
        ("tiny_long_context", Qwen3Config::tiny_long_context()),
        ("tiny_windows", Qwen3Config::tiny_windows()),
        ("tiny_yarn", Qwen3Config::tiny_yarn()),
        ("tiny_windows_yarn", Qwen3Config::tiny_windows_yarn()),
        ("tiny_experts", Qwen3Config::tiny_experts()),
        ("tiny_experts_mixed", Qwen3Config::tiny_experts_mixed()),
    ]
}

pub fn build(config: &Qwen3Config) -> Qwen3 {
    let mut source = RandomWeights::new(7, &Device::flex(), DType::F32);
    Qwen3::build(&mut source, config).unwrap()
}

/// The shape of every tensor of a checkpoint, weights `[out, in]`, written out independently of the model.
fn shapes(config: &Qwen3Config) -> BTreeMap<String, Vec<usize>> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let vocab = vec![config.vocab_size, hidden];
    let mut shapes = vec![(EMBEDDING.into(), vocab.clone()), (NORM.into(), vec![hidden])];
    if !config.tie_word_embeddings {
        shapes.push((HEAD.into(), vocab));
    }
    for layer in 0..config.num_hidden_layers {
        for (name, out, input) in [
            ("self_attn.q_proj", queries, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, queries),
        ] {
            let prefix = format!("model.layers.{layer}.{name}");
            if config.attention_bias {
                shapes.push((format!("{prefix}.bias"), vec![out]));
            }
            shapes.push((format!("{prefix}.weight"), vec![out, input]));
        }
        let mut block = |prefix: String, inner: usize| {
            for (name, out, input) in
                [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
            {
                shapes.push((format!("model.layers.{layer}.mlp.{prefix}{name}.weight"), vec![out, input]));
            }
        };
        match config.layer(layer).feed_forward {
            FeedForwardKind::Dense { .. } => block(String::new(), inner),
            FeedForwardKind::Sparse(experts) => {
                let size = experts.intermediate_size;
                (0..experts.count).for_each(|expert| block(format!("experts.{expert}."), size));
                shapes.push((format!("model.layers.{layer}.mlp.gate.weight"), vec![experts.count, hidden]));
            }
        }
        for (name, size) in [
            ("input_layernorm", hidden),
            ("post_attention_layernorm", hidden),
            ("self_attn.q_norm", config.head_dim),
            ("self_attn.k_norm", config.head_dim),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), vec![size]));
        }
    }
    shapes.into_iter().collect()
}

/// The model's tensors under their keys in a checkpoint.
pub fn stored(model: &Qwen3) -> Tensors {
    let entry = |(key, (_, shape, bytes)): (String, (DType, Vec<usize>, Vec<u8>))| {
        let key = key.strip_suffix(".0").unwrap_or(&key).to_string();
        let dtype = Dtype::F32;
        (key, Stored { dtype, shape, bytes })
    };
    parameters(model).into_iter().map(entry).collect()
}

/// A checkpoint of `config` with these tensors.
fn checkpoint(config: &Qwen3Config, tensors: &Tensors) -> Folder {
    let config = serde_json::from_str(&config.to_json()).unwrap();
    Folder::new(&config).write(WEIGHTS, safetensors(tensors))
}

fn from_record(folder: &Folder) -> Qwen3 {
    load_record(folder.path(RECORD), &Device::flex(), DType::F32).unwrap()
}

/// Two sequences without a pattern.
fn tokens(config: &Qwen3Config) -> Vec<i64> {
    let token = |index: usize| (7 * index * index + 3 * index + 1) % config.vocab_size;
    (0..BATCH * SEQ).map(|index| token(index) as i64).collect()
}

/// The logits of every position, row by row.
fn logits_of(model: &Qwen3, tokens: &[i64]) -> Vec<Vec<f32>> {
    let data = TensorData::new(tokens.to_vec(), [BATCH, SEQ]);
    let ids = Tensor::<2, Int>::from_data(data, &model.device());
    let values = model.forward(ids).into_data();
    let values = values.iter::<f32>().collect::<Vec<_>>();
    let rows = values.chunks(model.config.vocab_size);
    rows.map(<[f32]>::to_vec).collect()
}

fn logits(model: &Qwen3) -> Vec<Vec<f32>> {
    logits_of(model, &tokens(&model.config))
}

fn largest_difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    pairs.map(|(a, e)| (a - e).abs()).fold(0.0, f32::max)
}

fn transposed(stored: &Stored) -> Stored {
    let [rows, columns] = stored.shape[..] else {
        panic!("{:?} is not a matrix", stored.shape);
    };
    let values = stored.values();
    let turned = (0..rows * columns).map(|index| values[index % rows * columns + index / rows]);
    let turned = turned.collect::<Vec<_>>();
    Stored::new(stored.dtype, &[columns, rows], &turned)
}

#[test]
fn every_shape_follows_from_the_config() {
    for (name, config) in presets() {
        let model = build(&config);
        let found = parameters(&model);
        let found = found.iter().map(|(key, (dtype, shape, _))| {
            assert_eq!(*dtype, DType::F32, "{name}: {key}");
            (key.clone(), shape.clone())
        });
        let found = found.collect::<BTreeMap<_, _>>();
        let expected = shapes(&config);
        let count: usize = expected.values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(config.num_parameters(), count, "{name}");
        let expected =
            expected.into_iter().map(|(key, shape)| (record_key(&key), shape)).collect::<BTreeMap<_, _>>();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn both_loaders_give_the_bits_and_the_numbers_that_were_built() {
    for (name, config) in presets() {
        let model = build(&config);
        let folder = checkpoint(&config, &stored(&model));
        let loaded = folder.load(DType::F32).unwrap();
        save_record(&loaded, folder.path(RECORD), DType::F32).unwrap();
        let again = from_record(&folder);
        for other in [&loaded, &again] {
            assert_same(other, &model);
            assert_eq!(other.config, config, "{name}");
            assert_eq!(logits(other), logits(&model), "{name}");
        }
    }
}

/// The logits are of a sensible size, and depend on tokens, on what is before them, and on its order.
#[test]
fn the_numbers_are_not_degenerate() {
    for (name, config) in presets() {
        let model = build(&config);
        let tokens = tokens(&config);
        let expected = logits_of(&model, &tokens);
        let squares = expected.iter().flatten().map(|value| value * value);
        let rms = (squares.sum::<f32>() / (expected.len() * config.vocab_size) as f32).sqrt();
        assert!((0.1..100.0).contains(&rms), "{name}: {rms}");
        for (index, row) in expected.iter().enumerate() {
            let alike = |other: &Vec<f32>| {
                let pairs = row.iter().zip(other);
                pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-3
            };
            assert!(!expected[..index].iter().any(alike), "{name}: row {index}");
        }

        let last = SEQ - 1..SEQ;
        let mut other = tokens.clone();
        other[0] = (other[0] + 1) % config.vocab_size as i64;
        let mut swapped = tokens.clone();
        swapped.swap(0, 1);
        assert_ne!(swapped, tokens, "{name}");
        for changed in [other, swapped] {
            let found = logits_of(&model, &changed);
            let error = largest_difference(&found[last.clone()], &expected[last.clone()]);
            assert!(error > 1e-3, "{name}: {error}");
        }
    }
}

/// Where keys and values are square, the numbers show a transposition; elsewhere the loaders refuse it.
#[test]
fn transposed_keys_and_values_show_in_both_loaders() {
    let mut squares = 0;
    for (name, config) in presets() {
        let model = build(&config);
        let expected = logits(&model);
        for projection in ["k_proj", "v_proj"] {
            let key = format!("model.layers.0.self_attn.{projection}.weight");
            let mut tensors = stored(&model);
            let turned = transposed(&tensors[&key]);
            let shapes = format!("{key} {:?} for {:?}", turned.shape, tensors[&key].shape);
            let square = turned.shape == tensors[&key].shape;

            let folder = checkpoint(&config, &tensors);
            save_record(&model, folder.path(RECORD), DType::F32).unwrap();
            rewrite(&folder.path(RECORD), |tensors, _| {
                let mut tensors = tensors.iter_mut();
                let tensor = tensors.find(|tensor| tensor.name == key).unwrap();
                *tensor = entry(&key, DType::F32, turned.clone());
            });
            tensors.insert(key, turned);
            let folder = folder.write(WEIGHTS, safetensors(&tensors));
            if !square {
                folder.refused("Shape", WEIGHTS, &shapes);
                let record = load_record(folder.path(RECORD), &Device::flex(), DType::F32);
                folder.blames(record, "Shape", RECORD, &shapes);
                continue;
            }
            squares += 1;
            let (loaded, again) = (folder.load(DType::F32).unwrap(), from_record(&folder));
            assert_same(&again, &loaded);
            let found = logits(&loaded);
            assert_eq!(logits(&again), found, "{name}: {projection}");
            let error = largest_difference(&found, &expected);
            assert!(error > 1e-2, "{name}: {projection}: {error}");
        }
    }
    assert_eq!(squares, 6, "three presets have square keys and values");
}

/// Key and value heads written out once for each of their query heads give the same numbers; written out in
/// turns, as if query head `h` read key head `h % kv_heads`, they do not.
#[test]
fn grouped_heads_equal_heads_that_are_written_out() {
    let mut grouped = 0;
    for (name, config) in presets() {
        let groups = config.num_attention_heads / config.num_key_value_heads;
        if groups == 1 {
            continue;
        }
        grouped += 1;
        let model = build(&config);
        let expected = logits(&model);
        let plain = Qwen3Config { num_key_value_heads: config.num_attention_heads, ..config.clone() };
        let written_out = |in_turns: bool| {
            let mut tensors = stored(&model);
            for (key, stored) in &mut tensors {
                if !(key.contains(".k_proj.") || key.contains(".v_proj.")) {
                    continue;
                }
                let values = stored.values();
                let head = values.len() / config.num_key_value_heads;
                let block = if in_turns { values.len() } else { head };
                let repeated = values.chunks(block).flat_map(|block| block.repeat(groups));
                let repeated = repeated.collect::<Vec<_>>();
                let mut shape = stored.shape.clone();
                shape[0] *= groups;
                *stored = Stored::new(stored.dtype, &shape, &repeated);
            }
            logits(&checkpoint(&plain, &tensors).load(DType::F32).unwrap())
        };
        let largest = expected.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
        let error = largest_difference(&written_out(false), &expected);
        assert!(error < 2e-5 * largest, "{name}: {error} of {largest}");
        let error = largest_difference(&written_out(true), &expected);
        assert!(error > 1e-2, "{name}, in turns: {error}");
    }
    assert_eq!(grouped, 9);
}
