//! The tensors of a model as files hold them: adapters merged, in one dtype, each taken from the device when it is
//! written.

use std::path::Path;

use burn::tensor::{Bytes, DType, TensorData};
use burn_store::{ModuleSnapshot, bridge, burn_pack};
use half::{bf16, f16};
use qwen3_checkpoint::CheckpointError;
use qwen3_model::{Precision, Qwen3, burn_dtype, precision_of};
use qwen3_record::is_of_head;

use crate::ImportError;
use crate::adapter::merge_adapter;

/// The precision in which weights are written to `place`.
///
/// # Errors
/// [`ImportError::DType`] when `dtype` is not f32, f16 or bf16.
pub(crate) fn precision(dtype: DType, place: &str) -> Result<Precision, ImportError> {
    let place = || format!("in {place}; use F32, F16 or BF16");
    precision_of(dtype).ok_or_else(|| ImportError::DType { dtype, place: place() })
}

/// The tensors of `model`, an adapter on it merged into them, to be converted to `precision`. Merging takes memory for
/// the weights that it changes.
pub(crate) fn tensors(model: &Qwen3, precision: Precision) -> Vec<burn_pack::Tensor> {
    let model = merge_adapter(model.clone());
    // Of a tied model on several devices the head is a copy of the embedding.
    let copied = model.config.tie_word_embeddings;
    let tensors = model.collect(None, None, true).into_iter();
    let tensors = tensors.filter(|tensor| !copied || !is_of_head(&tensor.name));
    tensors.map(|tensor| cast(tensor, precision)).collect()
}

/// The bytes of one of the [`tensors`], which are to be in `file`.
///
/// # Errors
/// When a value does not stay finite.
pub(crate) fn bytes(tensor: &burn_pack::Tensor, file: &Path) -> Result<Bytes, CheckpointError> {
    tensor.to_bytes().map_err(|error| {
        let reason = match error {
            burn_pack::Error::ValidationError(reason) => reason,
            other => other.to_string(),
        };
        let reason = format!("tensor '{}': {reason}", tensor.name);
        CheckpointError::Malformed { file: file.into(), reason }
    })
}

/// `tensor` in `precision`, converted when the writer reaches it; fails when a value does not stay finite.
fn cast(tensor: burn_pack::Tensor, precision: Precision) -> burn_pack::Tensor {
    let dtype = burn_dtype(precision);
    if tensor.dtype == dtype {
        return tensor;
    }
    let (name, shape, id) = (tensor.name.clone(), tensor.shape.clone(), tensor.param_id);
    bridge::deferred(name, dtype, shape, id, move || {
        let data = bridge::to_data(&tensor)?;
        match first_non_finite(&data, precision) {
            None => Ok(data.convert_dtype(dtype)),
            Some((index, value)) => Err(burn_pack::Error::ValidationError(format!(
                "{value} at flat index {index} is not finite as {precision:?}"
            ))),
        }
    })
}

/// The first value that is NaN or infinite once rounded to `precision`, and its flat index.
fn first_non_finite(data: &TensorData, precision: Precision) -> Option<(usize, f32)> {
    let finite = |value: f32| match precision {
        Precision::F32 => value.is_finite(),
        Precision::F16 => f16::from_f32(value).is_finite(),
        Precision::BF16 => bf16::from_f32(value).is_finite(),
    };
    let mut values = data.iter::<f32>().enumerate();
    values.find(|(_, value)| !finite(*value))
}
