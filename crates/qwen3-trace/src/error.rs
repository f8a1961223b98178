use std::path::{Path, PathBuf};

use qwen3_checkpoint::CheckpointError;
use thiserror::Error;

/// Why a tensor file, a reference or activations cannot be used. Names the file, and the tensor where there
/// is one.
#[derive(Debug, Error)]
pub enum TraceError {
    /// A file is not there, is not what its name says, or a weight cannot be read.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// The file has no such tensor.
    #[error("{}: no tensor `{tensor}`", file.display())]
    NoTensor {
        /// The file.
        file: PathBuf,
        /// The tensor asked for.
        tensor: String,
    },
    /// A tensor is truncated, garbled, or has a header that lies.
    #[error("{}: tensor `{tensor}`: {reason}", file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor has a dtype that is not read, or not the one asked for.
    #[error("{}: tensor `{tensor}` has dtype {found}, expected {expected}", file.display())]
    DType {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dtypes that are read.
        expected: &'static str,
        /// The dtype in the file.
        found: String,
    },
    /// A tensor has no elements.
    #[error("{}: tensor `{tensor}` of shape {shape:?} has no elements", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the model gives it.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor holds a NaN or an infinity, or a value too large for f32.
    #[error("{}: tensor `{tensor}` is {value} at flat index {index}", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The flat index of the first such value.
        index: usize,
        /// The value as f32.
        value: f32,
    },
    /// A tensor holds integers where floats are needed, or the reverse.
    #[error("tensor `{tensor}` holds {found}, expected {expected}")]
    Values {
        /// The tensor.
        tensor: String,
        /// "floats" or "integers".
        expected: &'static str,
        /// "floats" or "integers".
        found: &'static str,
    },
}

impl TraceError {
    /// A file whose tensors do not fit one another or the model.
    pub fn malformed(file: &Path, reason: impl Into<String>) -> Self {
        Self::File(CheckpointError::Malformed { file: file.into(), reason: reason.into() })
    }

    /// A file or folder that cannot be written.
    pub fn write(file: &Path, source: std::io::Error) -> Self {
        Self::File(CheckpointError::Io { file: file.into(), source })
    }
}

/// [`TraceError::malformed`] unless `holds`.
pub(crate) fn ensure(holds: bool, file: &Path, reason: impl FnOnce() -> String) -> Result<(), TraceError> {
    if holds { Ok(()) } else { Err(TraceError::malformed(file, reason())) }
}
