use burn::tensor::DType;
use qwen3_checkpoint::CheckpointError;
use thiserror::Error;

/// Why a model cannot be loaded, or a record not be read or written.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A file of a checkpoint, or a record, cannot be used; names the file, and the key where there is one.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// The dtype asked for is not f32, f16 or bf16, or the device cannot compute in it.
    #[error("dtype {dtype:?} is not supported {place}")]
    DType {
        /// The dtype.
        dtype: DType,
        /// Where: on which device, or in a record.
        place: String,
    },
}
