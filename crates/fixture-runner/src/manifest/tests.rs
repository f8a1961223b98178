use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use qwen3_report::Kind;
use qwen3_trace::{Floor, Precision};

use super::*;
use crate::error::FixtureError as E;

/// The form of a SHA-256.
pub(super) const SHA: &str = "8217d7d2b5c2b3e6bcee3ac3b30ccb0ad1b4bfd2bca08ef15ad24cc8d9bc2f0f";

pub(super) fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("{:x}", Sha256::digest(bytes))
}

/// A manifest with a case of each form.
pub(super) fn good() -> Value {
    let floor = json!({"max_abs": 1e-7, "rms": 0.0});
    json!({
        "schema": 1,
        "generator": {"packages": {"torch": "2.9.0", "numpy": "2.2.6", "transformers": "5.23.0"},
                      "scripts": {}},
        "checkpoints": {"tiny": {"path": "fixtures/tiny", "files": {
            "config.json": sha256(b"config"), "model.safetensors": sha256(b"weights")}}},
        "files": {"fixtures/a.safetensors": sha256(b"tensors"), "fixtures/b.npz": sha256(b"reference")},
        "cases": [
            {"id": "norm", "kind": "rms_norm", "description": "d", "checkpoint": "tiny", "layer": 1,
             "module": "input_layernorm",
             "inputs": {"file": "fixtures/a.safetensors", "tensors": ["x"]},
             "expected": {"file": "fixtures/a.safetensors", "tensors": ["output"]},
             "noise_floors": {"output": {"f32": floor, "f16": floor, "bf16": floor}},
             "same_dtype": {"output": {"bf16": {"tensor": "output_bf16", "unequal": 0.25}}},
             "expected_failures": [{"backend": "wgpu", "dtype": "f16", "reason": "no f16"}]},
            {"id": "model", "kind": "full_model", "description": "d", "checkpoint": "tiny",
             "inputs": {"file": "fixtures/b.npz", "tensors": ["input_ids"]},
             "expected": {"file": "fixtures/b.npz", "tensors": ["logits", "generated_ids", "margins"]},
             "noise_floors": {"logits": {"f32": floor}}},
            {"id": "record", "kind": "record_roundtrip", "description": "d", "checkpoint": "tiny"},
            {"id": "prefill", "kind": "prefill", "description": "d", "checkpoint": "tiny", "chunk_size": 64,
             "inputs": {"file": "fixtures/b.npz", "tensors": ["input_ids", "columns"]},
             "expected": {"file": "fixtures/b.npz", "tensors": ["logits"]},
             "noise_floors": {"logits": {"f32": floor}}},
            {"id": "alone", "kind": "scaled_dot_product_attention", "description": "d",
             "attention": {"num_attention_heads": 4, "num_key_value_heads": 2, "causal": true, "chunks": [6, 1]},
             "inputs": {"file": "fixtures/b.npz", "tensors": ["x_q"]},
             "expected": {"file": "fixtures/b.npz", "tensors": ["output"]},
             "noise_floors": {"output": {"f32": floor}}},
        ]
    })
}

pub(super) fn read(folder: &TempDir, text: &str) -> Result<Manifest, E> {
    let path = folder.path().join("manifest.json");
    fs::write(&path, text).unwrap();
    Manifest::read(&path)
}

/// Reads the good manifest after a change.
pub(super) fn changed(change: impl FnOnce(&mut Value)) -> Result<Manifest, E> {
    let mut manifest = good();
    change(&mut manifest);
    read(&tempfile::tempdir().unwrap(), &manifest.to_string())
}

pub(super) fn message(change: impl FnOnce(&mut Value)) -> String {
    changed(change).unwrap_err().to_string()
}

#[test]
fn reads_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = read(&folder, &good().to_string()).unwrap();
    assert_eq!(manifest.root, folder.path().canonicalize().unwrap());
    assert_eq!(manifest.generator["packages"]["torch"], "2.9.0");
    assert_eq!(manifest.oracle(), "transformers 5.23.0, torch 2.9.0");
    assert_eq!(manifest.checkpoints["tiny"].path, "fixtures/tiny");
    assert_eq!(manifest.files.len(), 2);
    let [norm, model, record, prefill, alone] = &manifest.cases[..] else {
        panic!("{:?}", manifest.cases);
    };
    assert_eq!((norm.id.as_str(), norm.kind(), norm.checkpoint()), ("norm", Kind::RmsNorm, Some("tiny")));
    let Subject::RmsNorm { place, norm: which, data, same_dtype } = &norm.subject else {
        panic!("{norm:?}");
    };
    assert_eq!((place.layer, *which), (1, Norm::InputLayernorm));
    let (max_abs, rms) = (1e-7, 0.0);
    assert_eq!(data.noise_floors["output"][&Precision::BF16], Floor { max_abs, rms });
    assert_eq!(same_dtype["output"][&Precision::BF16].unequal, 0.25);
    assert_eq!(norm.expected_failures[0].dtype, Precision::F16);
    assert_eq!(model.data().unwrap().expected.tensors, ["logits", "generated_ids", "margins"]);
    assert!(record.data().is_none());
    assert!(matches!(prefill.subject, Subject::Prefill { chunk_size: 64, .. }));
    assert_eq!(alone.checkpoint(), None);
    let sizes =
        AttentionSizes { num_attention_heads: 4, num_key_value_heads: 2, causal: true, chunks: vec![6, 1] };
    assert!(matches!(&alone.subject, Subject::ScaledDotProductAttention(found, _) if *found == sizes));
}

#[test]
fn an_oracle_without_packages_has_no_name() {
    let oracle = |generator| changed(|m| m["generator"] = generator).unwrap().oracle();
    assert_eq!(oracle(json!({})), "");
    assert_eq!(oracle(json!({"packages": {"torch": "2.9.0", "transformers": 5}})), "torch 2.9.0");
}

#[test]
fn kinds_have_one_name() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.to_string()));
    }
}

#[test]
fn form_of_the_file() {
    let json = |change: fn(&mut Value)| matches!(changed(change), Err(E::Json { .. }));
    assert!(json(|m| m["extra"] = json!(1)));
    assert!(json(|m| m["cases"][0]["tolerance"] = json!(1)));
    assert!(json(|m| m["cases"][0]["inputs"]["shape"] = json!([1])));
    assert!(json(|m| m["cases"][0]["noise_floors"]["output"]["f32"]["mean"] = json!(1)));
    assert!(json(|m| m["cases"][0]["noise_floors"]["output"]["f64"] = json!({"max_abs": 0, "rms": 0})));
    assert!(json(|m| m["checkpoints"]["tiny"]["size"] = json!(1)));
    assert!(json(|m| m["cases"][4]["attention"]["scale"] = json!(1)));
    assert!(json(|m| m["cases"][4]["attention"]["chunks"] = json!([-1])));
    assert!(json(|m| m["cases"][3]["chunk_size"] = json!(1.5)));
    assert!(json(|m| m["generator"] = json!("me")));
    assert!(json(|m| drop(m.as_object_mut().unwrap().remove("cases"))));
    for schema in [json!(2), json!("1"), json!(1.5), json!(null)] {
        assert!(matches!(changed(|m| m["schema"] = schema), Err(E::Schema { .. })));
    }
}

#[test]
fn duplicate_keys_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let text = good().to_string();
    for (object, entry) in [
        (r#""checkpoints":{"#, r#""tiny":{"path":"x","files":{}},"#),
        (r#""files":{"config.json""#, r#""model.safetensors":"0","#),
        (r#""files":{"fixtures"#, r#""fixtures/b.npz":"0","#),
        (r#""noise_floors":{"logits":{"#, r#""f32":{"max_abs":0,"rms":0},"#),
        (r#""noise_floors":{"#, r#""output":{},"#),
        (r#""same_dtype":{"output":{"#, r#""bf16":{"tensor":"t","unequal":0},"#),
    ] {
        let inside = object.rfind('{').unwrap() + 1;
        let at = text.find(object).unwrap_or_else(|| panic!("{object} in {text}")) + inside;
        let twice = format!("{}{entry}{}", &text[..at], &text[at..]);
        let message = read(&folder, &twice).unwrap_err().to_string();
        assert!(message.contains("duplicate key"), "{object}: {message}");
    }
    let twice = text.replacen(r#""id":"norm""#, r#""id":"norm","id":"norm""#, 1);
    assert!(read(&folder, &twice).unwrap_err().to_string().contains("duplicate field `id`"));
}

#[test]
fn size_is_capped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    fs::File::create(&path).unwrap().set_len(MAX_MANIFEST_BYTES + 1).unwrap();
    let found = Manifest::read(&path);
    assert!(matches!(found, Err(E::TooLarge { bytes, .. }) if bytes == MAX_MANIFEST_BYTES + 1));
    assert!(matches!(Manifest::read(&folder.path().join("none")), Err(E::Io { .. })));
}
