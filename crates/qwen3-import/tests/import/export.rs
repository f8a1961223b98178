//! Models written back as checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use qwen3_import::{
    Adapter, Checkpoint, ImportError, Loader, attach_adapter, load, merge_adapter, save_checkpoint,
    save_checkpoint_with_texts,
};
use qwen3_model::{Extent, Qwen3, Qwen3Config};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::*;
use crate::compare::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read(dir: &Path) -> Qwen3 {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let extent = Extent::of(checkpoint.has_head());
    Loader::new(&Device::flex(), DType::F32).extent(extent).checkpoint(dir).unwrap()
}

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Of every kind that there is: what is written is read as the same model, and its files hold the same tensors, all of
/// one dtype.
#[test]
fn every_checkpoint_comes_back() {
    let checkpoints: Vec<_> = fs::read_dir(fixtures().join("checkpoints")).unwrap().collect();
    assert!(checkpoints.len() > 10);
    for folder in checkpoints {
        let folder = folder.unwrap().path();
        let model = read(&folder);
        let out = tempfile::tempdir().unwrap();
        save_checkpoint(&model, out.path(), DType::F32).unwrap();
        assert_same(&read(out.path()), &model);

        let dir = out.path().join("of/bf16");
        save_checkpoint(&model, &dir, DType::BF16).unwrap();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let extent = Extent::of(model.head().is_some());
        checkpoint.check(extent).unwrap();
        assert_eq!(json_of(&dir.join("config.json"))["torch_dtype"], "bfloat16");
        let tensors = checkpoint.tensors();
        assert!(tensors.values().all(|entry| entry.encoding == Dtype::BF16.into()));
        let values = tensors.values().map(|entry| entry.shape.iter().product::<usize>());
        assert_eq!(values.sum::<usize>(), extent.parameters(&model.config), "{}", folder.display());
        let written = Qwen3Config { dtype: model.config.dtype, ..checkpoint.config().clone() };
        assert_eq!(written, Qwen3Config { unrecognized: Vec::new(), ..model.config });
    }
}

/// Without a head it is Transformers' decoder: another class, keys without a prefix.
#[test]
fn a_model_without_a_head_is_the_decoder() {
    let model = read(&fixtures().join("checkpoints/embedding-headless"));
    let out = tempfile::tempdir().unwrap();
    save_checkpoint(&model, out.path(), DType::F32).unwrap();
    assert_eq!(json_of(&out.path().join("config.json"))["architectures"], json!(["Qwen3Model"]));
    let tensors = Checkpoint::open(out.path()).unwrap().tensors();
    assert!(tensors.contains_key("embed_tokens.weight") && tensors.keys().all(|key| !key.contains("model.")));
}

#[test]
fn an_adapter_is_merged_into_what_is_written() {
    let model = load(fixtures().join("checkpoints/yarn"), &Device::flex(), DType::F32).unwrap();
    let adapter = Adapter::open(fixtures().join("adapters/yarn-lora"), &model.config).unwrap();
    let adapted = attach_adapter(model.clone(), &adapter).unwrap();
    let out = tempfile::tempdir().unwrap();
    save_checkpoint(&adapted, out.path(), DType::F32).unwrap();
    let written = parameters(&read(out.path()));
    assert_eq!(written, parameters(&merge_adapter(adapted)));
    assert_ne!(written, parameters(&model));
}

/// Other files go beside the weights; of another config only what is about text.
#[test]
fn texts_go_beside_the_weights() {
    let model = Folder::plain().load(DType::F32).unwrap();
    let out = tempfile::tempdir().unwrap();
    let given = json!({"eos_token_id": [7, 8], "hidden_size": 1, "rope_parameters": {"rope_theta": 3.0}});
    let texts = [("tokenizer.json", "{}".to_string()), ("config.json", given.to_string())];
    let texts: BTreeMap<_, _> = texts.map(|(name, text)| (name.to_string(), text)).into();
    save_checkpoint_with_texts(&model, out.path(), DType::F32, &texts).unwrap();
    assert_eq!(fs::read_to_string(out.path().join("tokenizer.json")).unwrap(), "{}");
    let config = json_of(&out.path().join("config.json"));
    assert_eq!((&config["eos_token_id"], &config["rope_parameters"]), (&json!([7, 8]), &Value::Null));
    assert_same(&read(out.path()), &model);
}

/// What is there stays, and nothing half written is left.
#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    let out = tempfile::tempdir().unwrap();
    let refused = |dir: &Path, texts: &BTreeMap<String, String>, model: &Qwen3, dtype, expected: &str| {
        let error = save_checkpoint_with_texts(model, dir, dtype, texts).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        error
    };
    let none = BTreeMap::new();
    refused(folder.dir(), &none, &model, DType::F32, "is not empty");
    assert!(folder.load(DType::F32).is_ok());
    let file = folder.path(WEIGHTS);
    refused(&file, &none, &model, DType::F32, "is a file");
    let outside = [("../tokenizer.json".to_string(), String::new())].into();
    let dir = out.path().join("model");
    refused(&dir, &outside, &model, DType::F32, "../tokenizer.json");
    let error = refused(&dir, &none, &model, DType::F64, "F64");
    assert!(matches!(error, ImportError::DType { .. }));
    // A weight that f16 does not hold.
    let mut tensors = tensors(false);
    tensors.get_mut(K_PROJ).unwrap().set(3, 1e5);
    let large = Folder::with(false, &tensors).load(DType::F32).unwrap();
    let error = refused(&dir, &none, &large, DType::F16, "flat index 3 is not finite as F16").to_string();
    assert!(error.contains(K_PROJ) && error.contains(WEIGHTS), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}
