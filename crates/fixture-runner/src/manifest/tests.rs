use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::error::FixtureError as E;

/// The form of a SHA-256.
const SHA: &str = "8217d7d2b5c2b3e6bcee3ac3b30ccb0ad1b4bfd2bca08ef15ad24cc8d9bc2f0f";

pub(super) fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("{:x}", Sha256::digest(bytes))
}

/// A manifest with a case of each form.
pub(super) fn good() -> Value {
    let floor = json!({"max_abs": 1e-7, "rms": 0.0});
    json!({
        "schema": 1,
        "generator": {"packages": {"torch": "2.9.0"}, "scripts": {}},
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
        ]
    })
}

pub(super) fn read(folder: &TempDir, text: &str) -> Result<Manifest, E> {
    let path = folder.path().join("manifest.json");
    fs::write(&path, text).unwrap();
    Manifest::read(&path)
}

/// Reads the good manifest after a change.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Manifest, E> {
    let mut manifest = good();
    change(&mut manifest);
    read(&tempfile::tempdir().unwrap(), &manifest.to_string())
}

fn message(change: impl FnOnce(&mut Value)) -> String {
    changed(change).unwrap_err().to_string()
}

#[test]
fn reads_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = read(&folder, &good().to_string()).unwrap();
    assert_eq!(manifest.root, folder.path().canonicalize().unwrap());
    assert_eq!(manifest.generator["packages"]["torch"], "2.9.0");
    assert_eq!(manifest.checkpoints["tiny"].path, "fixtures/tiny");
    assert_eq!(manifest.files.len(), 2);
    let [norm, model, record] = &manifest.cases[..] else {
        panic!("{:?}", manifest.cases);
    };
    assert_eq!(
        (norm.id.as_str(), norm.kind, norm.layer),
        ("norm", Kind::RmsNorm, Some(1))
    );
    assert_eq!(
        (norm.module.as_deref(), norm.checkpoint.as_str()),
        (Some("input_layernorm"), "tiny")
    );
    assert_eq!(
        norm.noise_floors["output"][&TestDType::Bf16],
        Floor {
            max_abs: 1e-7,
            rms: 0.0
        }
    );
    assert_eq!(norm.same_dtype["output"][&TestDType::Bf16].unequal, 0.25);
    assert_eq!(norm.expected_failures[0].dtype, TestDType::F16);
    assert_eq!(
        model.expected.as_ref().unwrap().tensors,
        ["logits", "generated_ids", "margins"]
    );
    assert!(record.inputs.is_none() && record.expected.is_none());
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
    assert!(json(
        |m| m["cases"][0]["noise_floors"]["output"]["f32"]["mean"] = json!(1)
    ));
    assert!(json(
        |m| m["cases"][0]["noise_floors"]["output"]["f64"] = json!({"max_abs": 0, "rms": 0})
    ));
    assert!(json(|m| m["checkpoints"]["tiny"]["size"] = json!(1)));
    assert!(json(|m| m["generator"] = json!("me")));
    assert!(json(|m| drop(m.as_object_mut().unwrap().remove("cases"))));
    for schema in [json!(2), json!("1"), json!(1.5), json!(null)] {
        assert!(matches!(
            changed(|m| m["schema"] = schema),
            Err(E::Schema { .. })
        ));
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
        (
            r#""noise_floors":{"logits":{"#,
            r#""f32":{"max_abs":0,"rms":0},"#,
        ),
        (r#""noise_floors":{"#, r#""output":{},"#),
        (
            r#""same_dtype":{"output":{"#,
            r#""bf16":{"tensor":"t","unequal":0},"#,
        ),
    ] {
        let inside = object.rfind('{').unwrap() + 1;
        let at = text
            .find(object)
            .unwrap_or_else(|| panic!("{object} in {text}"))
            + inside;
        let twice = format!("{}{entry}{}", &text[..at], &text[at..]);
        let message = read(&folder, &twice).unwrap_err().to_string();
        assert!(message.contains("duplicate key"), "{object}: {message}");
    }
    let twice = text.replacen(r#""id":"norm""#, r#""id":"norm","id":"norm""#, 1);
    assert!(
        read(&folder, &twice)
            .unwrap_err()
            .to_string()
            .contains("duplicate field `id`")
    );
}

#[test]
fn entries_are_checked() {
    let files = |m: &mut Value, entry: Value| m["checkpoints"]["tiny"]["files"] = entry;
    assert!(message(|m| files(m, json!({}))).contains("`checkpoints.tiny.files`: no files"));
    assert!(
        message(|m| files(m, json!({"config.json": "AB"})))
            .contains("files.config.json`: not a SHA-256")
    );
    assert!(
        message(|m| files(m, json!({"a/b": sha256(b"")}))).contains("a/b`: not a plain file name")
    );
    assert!(
        message(|m| m["files"]["fixtures/b.npz"] = json!(SHA.to_uppercase()))
            .contains("not a SHA-256")
    );
    assert!(matches!(
        changed(|m| m["files"]["../x"] = json!(SHA)),
        Err(E::Path { .. })
    ));
    assert!(matches!(
        changed(|m| m["checkpoints"]["tiny"]["path"] = json!("/x")),
        Err(E::Path { .. })
    ));
    assert!(matches!(
        changed(|m| files(m, json!({"..": SHA}))),
        Err(E::Path { .. })
    ));
}

#[test]
fn cases_are_checked() {
    assert!(
        message(|m| m["cases"][1]["kind"] = json!("moe"))
            .contains("case `model`: unknown kind `moe`")
    );
    assert!(message(|m| m["cases"][1]["id"] = json!("norm")).contains("two cases with id `norm`"));
    let floor = json!({"f32": {"max_abs": 0.0, "rms": 0.0}});
    let below = json!({"f32": {"max_abs": 0.0, "rms": -1e-9}});
    let failure = json!({"backend": "tch", "dtype": "f16", "reason": "r"});
    let cases: Vec<(usize, &str, Value, &str)> = vec![
        (0, "/id", json!(" "), "the id"),
        (0, "/id", json!("a\nb"), "the id"),
        (
            0,
            "/checkpoint",
            json!("big"),
            "checkpoint `big` is not listed",
        ),
        (
            0,
            "/inputs/file",
            json!("x"),
            "file `x` of `inputs` is not listed",
        ),
        (
            0,
            "/expected/file",
            json!("y"),
            "file `y` of `expected` is not listed",
        ),
        (0, "/inputs/tensors", json!([]), "`inputs` names no tensors"),
        (0, "/inputs/tensors", json!(["x", "x"]), "tensor `x` twice"),
        (0, "/layer", json!(null), "kind rms_norm needs `layer`"),
        (0, "/module", json!(null), "kind rms_norm needs `module`"),
        (0, "/module", json!("norm"), "module `norm`"),
        (0, "/kind", json!("mlp"), "kind mlp has no `module`"),
        (0, "/inputs", json!(null), "needs `inputs`"),
        (1, "/expected", json!(null), "needs `expected`"),
        (
            1,
            "/kind",
            json!("attention"),
            "kind attention needs `layer`",
        ),
        (
            1,
            "/kind",
            json!("record_roundtrip"),
            "kind record_roundtrip has no `inputs`",
        ),
        (
            0,
            "/noise_floors",
            json!({}),
            "no noise floors for expected tensor `output`",
        ),
        (0, "/noise_floors/output", json!({}), "name no dtype"),
        (
            0,
            "/noise_floors/output",
            below,
            "`output` in f32 is not finite and >= 0",
        ),
        (
            1,
            "/noise_floors",
            json!({"logits": floor, "margins": floor}),
            "noise floors for `margins`",
        ),
        (0, "/same_dtype", json!({"x": {}}), "`same_dtype` of `x`"),
        (
            0,
            "/same_dtype/output",
            json!({"f32": {"tensor": "t", "unequal": 0}}),
            "f16 and bf16 only",
        ),
        (
            0,
            "/same_dtype/output/bf16/unequal",
            json!(1.5),
            "not a share",
        ),
        (
            0,
            "/expected_failures/0/backend",
            json!(""),
            "without a backend",
        ),
        (
            0,
            "/expected_failures/0/reason",
            json!(" "),
            "has no reason",
        ),
        (
            0,
            "/expected_failures",
            json!([failure, failure]),
            "two expected failures on tch in f16",
        ),
    ];
    for (number, pointer, value, reason) in cases {
        let found = changed(|m| *m["cases"][number].pointer_mut(pointer).unwrap() = value);
        let Err(E::Case { reason: found, .. }) = found else {
            panic!("{pointer} ({reason}): {found:?}");
        };
        assert!(found.contains(reason), "{pointer}: {found}");
    }
    assert!(
        message(|m| m["cases"][2]["layer"] = json!(0))
            .contains("kind record_roundtrip has no `layer`")
    );
    let same = json!({"logits": {"f16": {"tensor": "t", "unequal": 0}}});
    assert!(
        message(|m| m["cases"][1]["same_dtype"] = same)
            .contains("kind full_model has no `same_dtype`")
    );
}

#[test]
fn size_is_capped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    fs::File::create(&path)
        .unwrap()
        .set_len(MAX_MANIFEST_BYTES + 1)
        .unwrap();
    let found = Manifest::read(&path);
    assert!(matches!(found, Err(E::TooLarge { bytes, .. }) if bytes == MAX_MANIFEST_BYTES + 1));
    assert!(matches!(
        Manifest::read(&folder.path().join("none")),
        Err(E::Io { .. })
    ));
}
