use serde_json::{Value, json};

use crate::error::FixtureError as E;
use crate::manifest::tests::{SHA, changed, message, sha256};

#[test]
fn entries_are_checked() {
    let files = |m: &mut Value, entry: Value| m["checkpoints"]["tiny"]["files"] = entry;
    assert!(message(|m| files(m, json!({}))).contains("`checkpoints.tiny.files`: no files"));
    assert!(
        message(|m| files(m, json!({"config.json": "AB"}))).contains("files.config.json`: not a SHA-256")
    );
    assert!(message(|m| files(m, json!({"a/b": sha256(b"")}))).contains("a/b`: not a plain file name"));
    assert!(message(|m| m["files"]["fixtures/b.npz"] = json!(SHA.to_uppercase())).contains("not a SHA-256"));
    assert!(matches!(changed(|m| m["files"]["../x"] = json!(SHA)), Err(E::Path { .. })));
    assert!(matches!(changed(|m| m["checkpoints"]["tiny"]["path"] = json!("/x")), Err(E::Path { .. })));
    assert!(matches!(changed(|m| files(m, json!({"..": SHA}))), Err(E::Path { .. })));
}

#[test]
fn cases_are_checked() {
    assert!(message(|m| m["cases"][1]["kind"] = json!("moe")).contains("case `model`: unknown kind `moe`"));
    assert!(message(|m| m["cases"][1]["id"] = json!("norm")).contains("two cases with id `norm`"));
    let floor = json!({"f32": {"max_abs": 0.0, "rms": 0.0}});
    let below = json!({"f32": {"max_abs": 0.0, "rms": -1e-9}});
    let failure = json!({"backend": "tch", "dtype": "f16", "reason": "r"});
    let cases: Vec<(usize, &str, Value, &str)> = vec![
        (0, "/id", json!(" "), "the id"),
        (0, "/id", json!("a\nb"), "the id"),
        (0, "/checkpoint", json!("big"), "checkpoint `big` is not listed"),
        (0, "/inputs/file", json!("x"), "file `x` of `inputs` is not listed"),
        (0, "/expected/file", json!("y"), "file `y` of `expected` is not listed"),
        (0, "/inputs/tensors", json!([]), "`inputs` names no tensors"),
        (0, "/inputs/tensors", json!(["x", "x"]), "tensor `x` twice"),
        (0, "/checkpoint", json!(null), "kind rms_norm needs `checkpoint`"),
        (0, "/layer", json!(null), "kind rms_norm needs `layer`"),
        (0, "/module", json!(null), "kind rms_norm needs `module`"),
        (0, "/module", json!("norm"), "module `norm`"),
        (0, "/kind", json!("mlp"), "kind mlp has no `module`"),
        (0, "/inputs", json!(null), "needs `inputs`"),
        (1, "/expected", json!(null), "needs `expected`"),
        (1, "/kind", json!("attention"), "kind attention needs `layer`"),
        (1, "/kind", json!("record_roundtrip"), "kind record_roundtrip has no `inputs`"),
        (0, "/noise_floors", json!({}), "no noise floors for expected tensor `output`"),
        (0, "/noise_floors/output", json!({}), "name no dtype"),
        (0, "/noise_floors/output", below, "`output` in f32 is not finite and >= 0"),
        (1, "/noise_floors", json!({"logits": floor, "margins": floor}), "noise floors for `margins`"),
        (0, "/same_dtype", json!({"x": {}}), "`same_dtype` of `x`"),
        (0, "/same_dtype/output", json!({"f32": {"tensor": "t", "unequal": 0}}), "f16 and bf16 only"),
        (0, "/same_dtype/output/bf16/unequal", json!(1.5), "not a share"),
        (0, "/expected_failures/0/backend", json!(""), "without a backend"),
        (0, "/expected_failures/0/reason", json!(" "), "has no reason"),
        (0, "/expected_failures", json!([failure, failure]), "two expected failures on tch in f16"),
        (3, "/chunk_size", json!(null), "kind prefill needs `chunk_size`"),
        (3, "/chunk_size", json!(0), "`chunk_size` is 0"),
        (3, "/kind", json!("full_model"), "kind full_model has no `chunk_size`"),
        (4, "/attention", json!(null), "kind scaled_dot_product_attention needs `attention`"),
        (4, "/attention/num_key_value_heads", json!(3), "4 query heads cannot share 3 key heads"),
        (4, "/attention/num_key_value_heads", json!(0), "cannot share 0 key heads"),
        (4, "/attention/num_attention_heads", json!(0), "0 query heads"),
        (4, "/attention/chunks", json!([]), "`attention.chunks`"),
        (4, "/attention/chunks", json!([3, 0]), "`attention.chunks`"),
    ];
    for (number, pointer, value, reason) in cases {
        let found = changed(|m| *m["cases"][number].pointer_mut(pointer).unwrap() = value);
        let Err(E::Case { reason: found, .. }) = found else {
            panic!("{pointer} ({reason}): {found:?}");
        };
        assert!(found.contains(reason), "{pointer}: {found}");
    }
    assert!(message(|m| m["cases"][2]["layer"] = json!(0)).contains("kind record_roundtrip has no `layer`"));
    assert!(
        message(|m| m["cases"][4]["checkpoint"] = json!("tiny"))
            .contains("kind scaled_dot_product_attention has no `checkpoint`")
    );
    let same = json!({"logits": {"f16": {"tensor": "t", "unequal": 0}}});
    assert!(message(|m| m["cases"][1]["same_dtype"] = same).contains("kind full_model has no `same_dtype`"));
}
