use std::ops::Range;

use burn::tensor::{Device, Tensor};

use crate::{DecoderLayer, Kernel};

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

    /// Decoder layer `index` as it is to run: with an adapter on it, where the source has one.
    ///
    /// # Errors
    /// When what belongs on it cannot be had.
    fn adapted(&mut self, index: usize, layer: DecoderLayer) -> Result<DecoderLayer, Self::Error> {
        let _ = index;
        Ok(layer)
    }

    /// How modules with these weights compute.
    fn kernel(&self) -> Kernel {
        Kernel::default()
    }
}

/// A source whose tensors can come onto another device from one tensor to the next: of a model that lies on several.
pub trait PlacedSource: WeightSource {
    /// The tensors that are asked for from now on come onto `device`.
    fn place(&mut self, device: &Device);
}
