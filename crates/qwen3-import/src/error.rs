use std::path::PathBuf;

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
    /// There is no file or folder of this name, and it is no name on the hub, or nobody may look there.
    #[error(
        "{}: no such file or folder{}",
        name.display(),
        if cfg!(feature = "hub") { "" } else { "; names on the hub need the feature `hub` of qwen3-import" }
    )]
    NoModel {
        /// The name.
        name: PathBuf,
    },
    /// The model is not in the cache and cannot be had from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] qwen3_hub::HubError),
}
