//! Honest runs of a small checkpoint whose norms are those of layer 8 of the real Qwen3-0.6B, whose weights reach from
//! near 0 to far from 1.
//!
//! They lie in the project's shared assets beside the checkout; without them nothing is checked, and the test says so.

use std::fs;
use std::path::Path;
use std::time::Duration;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{EMBEDDING, FINAL_NORM, Precision, Qwen3Config, Rows, Site, Tap};
use qwen3_trace::{Reference, Trace};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use crate::arithmetic::Arithmetic;
use crate::norms::final_norm;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::{LayerWeights, embedding_rows, head_product};
use crate::{ExamineOptions, examine};

const IDS: [u32; 6] = [3, 14, 1, 59, 26, 5];
/// Honest implementations that are judged; the first eight make the limits.
const DRAWS: [u32; 4] = [11, 21, 38, 55];

type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

fn write(file: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, file).unwrap();
}

fn floats(name: String, shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Tensor {
    (name, Dtype::F32, shape, values.flat_map(f32::to_le_bytes).collect())
}

/// Numbers of about unit variance, always the same. The finaliser of SplitMix64 on a counter, four at a time.
fn drawn(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    let uniform = |counter: u64| {
        let mut bits = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let start = 1 + (seed << 32);
    (0..count as u64).map(move |i| (0..4).map(|k| uniform(start + 4 * i + k)).sum::<f32>() * 3.0_f32.sqrt())
}

/// Writes a checkpoint of two layers with the real norms.
fn write_checkpoint(folder: &Path, norms: &[u8]) -> Checkpoint {
    let config = serde_json::json!({
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 64,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 64, "hidden_act": "silu",
        "tie_word_embeddings": false, "attention_bias": false, "torch_dtype": "bfloat16",
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let config = Qwen3Config::from_json(&config.to_string()).unwrap();
    let real = safetensors::SafeTensors::deserialize(norms).unwrap();
    let tensors = config.weights().enumerate().map(|(seed, weight)| {
        if let Some(name) = real.names().into_iter().find(|name| weight.key.ends_with(*name)) {
            let norm = real.tensor(name).unwrap();
            return (weight.key, norm.dtype(), weight.shape, norm.data().to_vec());
        }
        let scale = match weight.shape[..] {
            [_, input] if weight.key != EMBEDDING => 1.0 / (input as f32).sqrt(),
            _ => 1.0,
        };
        let values = drawn(seed as u64, weight.shape.iter().product());
        floats(weight.key, weight.shape, values.map(|value| scale * value))
    });
    write(&folder.join("model.safetensors"), &tensors.collect::<Vec<_>>());
    Checkpoint::open(folder).unwrap()
}

/// What passes through the model in an arithmetic, with the prompt.
fn run(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> Vec<Tensor> {
    let config = checkpoint.config();
    let variant = Variant { arithmetic, ..Variant::right(config) };
    let rows = Rows::unpadded(1, IDS.len());
    let bytes = IDS.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    let mut tensors = vec![("input_ids".to_string(), Dtype::I64, vec![1, IDS.len()], bytes)];
    let mut keep = |site: Site, values: &[f64]| {
        let shape = site.tap.shape(config, 1, IDS.len());
        tensors.push(floats(site.to_string(), shape, values.iter().map(|value| *value as f32)));
    };
    let embedded = embedding_rows(checkpoint, &IDS).unwrap();
    let mut x: Vec<f64> = embedded.into_iter().map(|value| arithmetic.held(value)).collect();
    keep(Site::outside(Tap::Embedding), &x);
    for layer in 0..config.num_hidden_layers {
        let weights = LayerWeights::read(checkpoint, layer).unwrap();
        let taps = run_layer(&weights, config, &variant, &rows, &x, None);
        Tap::of_kind(config.layer(layer).feed_forward)
            .for_each(|tap| keep(Site::inside(layer, tap), taps.get(tap)));
        x = taps.get(Tap::LayerOutput).to_vec();
    }
    let norm = checkpoint.values(FINAL_NORM, &[config.hidden_size]).unwrap();
    let normed = final_norm(&x, &norm, &variant);
    keep(Site::outside(Tap::FinalNorm), &normed);
    keep(Site::outside(Tap::Logits), &head_product(checkpoint, &normed, arithmetic).unwrap());
    tensors
}

#[test]
fn honest_runs_with_the_real_norms_are_not_accused() {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/real-layer8-norm");
    let Ok(norms) = fs::read(real.join("weights.safetensors")) else {
        eprintln!("not checked: no real norms at {}", real.display());
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = write_checkpoint(folder.path(), &norms);
    let [expected, observed] =
        ["reference", "observed"].map(|name| folder.path().join(name).with_extension("safetensors"));
    write(&expected, &run(&checkpoint, Arithmetic::Exact));
    let reference = Reference::open(&expected, checkpoint.config(), true).unwrap();
    let judge = |dtype: Precision, tensors: &[Tensor]| {
        write(&observed, tensors);
        let mut quiet = |_: &str| {};
        let options =
            ExamineOptions { diagnose_for: Duration::ZERO, ..ExamineOptions::new(dtype, &mut quiet) };
        examine(&checkpoint, &reference, &Trace::open(&observed).unwrap(), options).unwrap()
    };
    for dtype in Precision::ALL {
        for draw in DRAWS {
            let tensors = run(&checkpoint, Arithmetic::Rounded { dtype, draw });
            let found = judge(dtype, &tensors);
            assert!(found.verdicts.pass(), "{dtype}, draw {draw}: {:?}", found.diagnosis);
            // As another framework gives them, without what is inside the layers.
            let outputs: Vec<Tensor> = tensors.into_iter().filter(|(name, ..)| !name.contains('.')).collect();
            let found = judge(dtype, &outputs);
            assert!(found.verdicts.pass(), "{dtype}, outputs, draw {draw}: {:?}", found.diagnosis);
        }
        // A run in a narrower format than it says is seen through these norms, too.
        if dtype != Precision::BF16 {
            let tensors = run(&checkpoint, Arithmetic::Rounded { dtype: Precision::BF16, draw: 0 });
            assert!(!judge(dtype, &tensors).verdicts.pass(), "bf16 as {dtype}");
        }
    }
}
