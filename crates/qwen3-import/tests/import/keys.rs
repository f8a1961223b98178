//! Every difference between the key table and the file is an error that names both.

use burn::tensor::DType;
use safetensors::Dtype;

use crate::common::*;
use crate::compare::*;

/// The untied checkpoint after a change.
fn changed(change: impl FnOnce(&mut Tensors)) -> Folder {
    let mut tensors = tensors(false);
    change(&mut tensors);
    Folder::with(false, &tensors)
}

#[test]
fn every_missing_key_is_named() {
    for tied in [false, true] {
        let all = tensors(tied);
        for key in all.keys() {
            let mut tensors = all.clone();
            tensors.remove(key);
            let kind = if key == HEAD { "NoHead" } else { "MissingKey" };
            Folder::with(tied, &tensors).refused(kind, WEIGHTS, key);
        }
    }
}

#[test]
fn an_unused_key_is_named() {
    for key in [
        "extra",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.bias",
        "model.layers.01.mlp.up_proj.weight",
        "model.norm.bias",
        "Lm_head.weight",
    ] {
        let extra = Stored::new(Dtype::F32, &[1], &[1.0]);
        changed(|tensors| drop(tensors.insert(key.into(), extra))).refused("UnusedKey", WEIGHTS, key);
    }
    // Of several, the first in alphabetical order, whatever a hash map does.
    changed(|tensors| {
        for key in ["z", "y", "x", "w", "v"] {
            tensors.insert(key.into(), Stored::new(Dtype::F32, &[1], &[1.0]));
        }
    })
    .refused("UnusedKey", WEIGHTS, "v");
}

#[test]
fn a_key_twice_in_one_header_is_named() {
    let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = format!(r#"{{"a":{entry},"b":{entry},"a":{entry}}}"#);
    let folder = Folder::new(&config(false)).write(WEIGHTS, raw_safetensors(&header, &[0; 4]));
    folder.refused("DuplicateKey", WEIGHTS, "a");
    // The same key in another spelling.
    let header = format!(r#"{{"a":{entry},"\u0061":{entry}}}"#);
    let folder = folder.write(WEIGHTS, raw_safetensors(&header, &[0; 4]));
    folder.refused("DuplicateKey", WEIGHTS, "a");
    // A field twice inside one entry.
    let header = r#"{"a":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,4]}}"#;
    let folder = folder.write(WEIGHTS, raw_safetensors(header, &[0; 4]));
    folder.refused("Malformed", WEIGHTS, "`a`: duplicate field `shape`");
}

#[test]
fn a_misshapen_tensor_is_named() {
    for (key, shape, expected) in [
        (Q_PROJ, vec![8, 16], "[16, 8]"),
        (Q_PROJ, vec![128], "[16, 8]"),
        (Q_PROJ, vec![16, 8, 1], "[16, 8]"),
        (NORM, vec![8, 1], "[8]"),
        (NORM, vec![], "[8]"),
        (EMBEDDING, vec![12, 8], "[11, 8]"),
        (EMBEDDING, vec![11, 0], "[11, 8]"),
        (HEAD, vec![8, 11], "[11, 8]"),
    ] {
        let values = vec![0.5; shape.iter().product()];
        let stored = Stored::new(Dtype::F32, &shape, &values);
        let detail = format!("{key} {shape:?} for {expected}");
        changed(|tensors| drop(tensors.insert(key.into(), stored))).refused("Shape", WEIGHTS, &detail);
    }
}

#[test]
fn a_dtype_that_is_not_read_is_named() {
    for dtype in [Dtype::I64, Dtype::F64] {
        for key in [EMBEDDING, K_PROJ, NORM, HEAD] {
            let detail = format!("{key} {dtype:?}");
            changed(|tensors| {
                let stored = &tensors[key];
                tensors.insert(key.into(), Stored::new(dtype, &stored.shape, &stored.values()));
            })
            .refused("TensorDType", WEIGHTS, &detail);
        }
    }
}

#[test]
fn a_tied_head_may_be_absent_or_equal() {
    let mut tied = tensors(true);
    let model = Folder::with(true, &tied).load(DType::F32).unwrap();
    assert!(model.lm_head.is_none());
    assert_holds(&model, &tied, (DType::F32, Dtype::F32));

    let embedding = tied[EMBEDDING].clone();
    tied.insert(HEAD.into(), embedding.clone());
    let model = Folder::with(true, &tied).load(DType::F32).unwrap();
    assert!(model.lm_head.is_none());
    assert_holds(&model, &tensors(true), (DType::F32, Dtype::F32));

    let refused = |head: Stored, kind: &str, detail: &str| {
        let mut tensors = tied.clone();
        tensors.insert(HEAD.into(), head);
        Folder::with(true, &tensors).refused(kind, WEIGHTS, detail);
    };
    for index in [0, 87] {
        let mut head = embedding.clone();
        head.set(index, 2.0);
        refused(head, "TiedWeightsDiffer", "");
    }
    refused(embedding.cast(Dtype::BF16), "TiedWeightsDiffer", "");
    let small = Stored::new(Dtype::F32, &[10, 8], &[0.0; 80]);
    refused(small, "Shape", &format!("{HEAD} [10, 8] for [11, 8]"));
    let wide = Stored::new(Dtype::F64, &[11, 8], &[0.0; 88]);
    refused(wide, "TensorDType", &format!("{HEAD} F64"));
}

#[test]
fn an_untied_head_is_not_the_embedding() {
    let tensors = tensors(false);
    let model = Folder::plain().load(DType::F32).unwrap();
    assert!(model.lm_head.is_some());
    assert_holds(&model, &tensors, (DType::F32, Dtype::F32));
    assert_ne!(tensors[HEAD], tensors[EMBEDDING]);
}
