//! Checkpoints with experts: a tensor for each, or one for all of a layer.

use burn::tensor::DType;
use qwen3_model::Qwen3Config;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::*;
use crate::compare::*;
use crate::synthetic::stored;

const COUNT: usize = 6;

/// Random weights of `experts-mixed`, in which layer 1 has six experts.
fn tensors() -> Tensors {
    stored(&crate::synthetic::build(&Qwen3Config::tiny_experts_mixed()))
}

fn folder(tensors: &Tensors) -> Folder {
    with_config(tensors, |_| {})
}

fn with_config(tensors: &Tensors, change: impl Fn(&mut Value)) -> Folder {
    let mut config = serde_json::from_str(&Qwen3Config::tiny_experts_mixed().to_json()).unwrap();
    change(&mut config);
    Folder::new(&config).write(WEIGHTS, safetensors(tensors))
}

fn key(expert: usize, name: &str) -> String {
    format!("model.layers.1.mlp.experts.{expert}.{name}.weight")
}

fn fused_key(name: &str) -> String {
    format!("model.layers.1.mlp.experts.{name}")
}

/// The same experts as one tensor.
fn fused(tensors: &Tensors) -> Tensors {
    let mut fused = tensors.clone();
    let mut take = |expert: usize, name: &str| fused.remove(&key(expert, name)).unwrap().bytes;
    let (mut gate_up, mut down) = (Vec::new(), Vec::new());
    for expert in 0..COUNT {
        gate_up.extend(take(expert, "gate_proj"));
        gate_up.extend(take(expert, "up_proj"));
        down.extend(take(expert, "down_proj"));
    }
    let dtype = Dtype::F32;
    fused.insert(fused_key("gate_up_proj"), Stored { dtype, shape: vec![COUNT, 64, 64], bytes: gate_up });
    fused.insert(fused_key("down_proj"), Stored { dtype, shape: vec![COUNT, 64, 32], bytes: down });
    fused
}

#[test]
fn experts_in_one_tensor_are_the_same_model() {
    let tensors = tensors();
    let apart = folder(&tensors).load(DType::F32).unwrap();
    assert_same(&folder(&fused(&tensors)).load(DType::F32).unwrap(), &apart);
    let half = folder(&fused(&tensors)).load(DType::BF16).unwrap();
    assert_same(&half, &folder(&tensors).load(DType::BF16).unwrap());
}

#[test]
fn an_expert_too_few_or_too_many_is_named() {
    let all = tensors();
    let mut missing = all.clone();
    missing.remove(&key(4, "up_proj"));
    folder(&missing).refused("MissingKey", WEIGHTS, &key(4, "up_proj"));
    let mut more = all.clone();
    more.insert(key(COUNT, "up_proj"), all[&key(0, "up_proj")].clone());
    folder(&more).refused("UnusedKey", WEIGHTS, &key(COUNT, "up_proj"));
    // The same of one tensor for all: the config says five.
    let fused = fused(&all);
    let detail = format!("{} [6, 64, 64] for [5, 64, 64]", fused_key("gate_up_proj"));
    let five = |config: &mut Value| config["num_experts"] = json!(5);
    let mut router = fused.clone();
    router.insert("model.layers.1.mlp.gate.weight".into(), Stored::new(Dtype::F32, &[5, 64], &[0.0; 5 * 64]));
    with_config(&router, five).refused("Shape", WEIGHTS, &detail);
    // Both forms at once, and half of one.
    let mut both = fused.clone();
    both.extend(all);
    folder(&both).refused("UnusedKey", WEIGHTS, &fused_key("down_proj"));
    let mut half = fused.clone();
    half.remove(&fused_key("down_proj"));
    folder(&half).refused("MissingKey", WEIGHTS, &key(0, "down_proj"));
}

#[test]
fn a_router_of_another_size_is_named() {
    let mut tensors = tensors();
    let gate = "model.layers.1.mlp.gate.weight";
    tensors.insert(gate.into(), Stored::new(Dtype::F32, &[7, 64], &[0.0; 7 * 64]));
    folder(&tensors).refused("Shape", WEIGHTS, &format!("{gate} [7, 64] for [6, 64]"));
    // A value of an expert that is not finite, told by its place in the tensor that holds it.
    let mut tensors = fused(&crate::experts::tensors());
    tensors.get_mut(&fused_key("down_proj")).unwrap().set(64 * 32 + 5, f32::NAN);
    let detail = format!("{}[{}] = NaN as F32", fused_key("down_proj"), 64 * 32 + 5);
    folder(&tensors).refused("NonFinite", WEIGHTS, &detail);
}
