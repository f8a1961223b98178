//! Looks into models.

use std::collections::BTreeMap;

use burn::tensor::DType;
use burn_store::{ModuleSnapshot, bridge};
use qwen3_model::Qwen3;
use safetensors::Dtype;

use crate::common::*;

/// Every parameter of a model under its record key, in the dtype it is held in.
pub fn parameters(model: &Qwen3) -> BTreeMap<String, (DType, Vec<usize>, Vec<u8>)> {
    let entry = |tensor: burn_store::burn_pack::Tensor| {
        let name = tensor.name.clone();
        let data = bridge::into_data(tensor).unwrap();
        (name, (data.dtype(), data.shape().to_vec(), data.as_bytes().to_vec()))
    };
    let tensors = model.collect(None, None, true);
    tensors.into_iter().map(entry).collect()
}

/// The key of a tensor in a record: vocabulary-sized matrices are in blocks, here one.
pub fn record_key(key: &str) -> String {
    match key {
        EMBEDDING | HEAD => format!("{key}.0"),
        _ => key.into(),
    }
}

/// The model holds exactly `tensors`, in `dtype`.
#[track_caller]
pub fn assert_holds(model: &Qwen3, tensors: &Tensors, dtype: (DType, Dtype)) {
    let found = parameters(model);
    assert_eq!(found.len(), tensors.len());
    for (key, stored) in tensors {
        let (found_dtype, shape, bytes) = &found[&record_key(key)];
        assert_eq!((found_dtype, shape), (&dtype.0, &stored.shape), "{key}");
        assert_eq!(bytes, &stored.cast(dtype.1).bytes, "{key}");
    }
}

/// The two models hold the same bits in the same dtypes.
#[track_caller]
pub fn assert_same(found: &Qwen3, expected: &Qwen3) {
    let (found, expected) = (parameters(found), parameters(expected));
    assert!(found.keys().eq(expected.keys()));
    let differing = found.keys().filter(|key| found[*key] != expected[*key]);
    assert_eq!(differing.collect::<Vec<_>>(), [""; 0]);
}
