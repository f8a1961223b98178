use std::ops::Range;

use burn::tensor::Tensor;

use crate::Kernel;

/// Where a model gets its weights from: a checkpoint, a record, or a random generator.
///
/// The modules ask for every tensor by its key in the Hugging Face checkpoint
/// (`model.layers.0.self_attn.q_proj.weight`), so the sequence of calls made by
/// [`Qwen3::build`](crate::Qwen3::build) *is* the key table. Tensors come back on the device and in
/// the dtype the source was made for.
pub trait WeightSource {
    /// What goes wrong when a tensor cannot be had.
    type Error;

    /// The tensor stored under `key`.
    ///
    /// # Errors
    /// When the key is missing or its shape is not `shape`.
    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, Self::Error>;

    /// The rows `rows` of the matrix of shape `shape` stored under `key`: `[rows.len(), shape[1]]`.
    ///
    /// Used for vocabulary-sized matrices, which are held as several blocks of rows.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn rows(&mut self, key: &str, shape: [usize; 2], rows: Range<usize>) -> Result<Tensor<2>, Self::Error>;

    /// How modules with these weights compute.
    fn kernel(&self) -> Kernel {
        Kernel::default()
    }
}
