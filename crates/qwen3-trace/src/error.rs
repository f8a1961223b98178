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
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}{}", file.display(), exchanged(found, expected))]
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

/// What a shape with the same sizes in another order looks like; nothing of any other.
fn exchanged(found: &[usize], expected: &[usize]) -> String {
    // One sequence may be without its batch axis.
    let bare = found.len() + 1 == expected.len() && expected[0] == 1;
    let wanted = if bare { &expected[1..] } else { expected };
    let sorted = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        shape.sort_unstable();
        shape
    };
    if sorted(found) != sorted(wanted) {
        return String::new();
    }
    let moved: Vec<usize> = (0..found.len()).filter(|axis| found[*axis] != wanted[*axis]).collect();
    match moved[..] {
        [a, b] => format!(": axes {a} and {b} look exchanged"),
        [] => String::new(),
        _ => format!(": axes {moved:?} look permuted"),
    }
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

#[cfg(test)]
mod tests {
    use super::exchanged;

    #[test]
    fn axes_that_look_exchanged_are_named() {
        for (found, expected, said) in [
            (&[1, 4, 24, 32][..], &[1, 24, 4, 32][..], ": axes 1 and 2 look exchanged"),
            (&[4, 24, 32], &[1, 24, 4, 32], ": axes 0 and 1 look exchanged"),
            (&[12, 64], &[64, 12], ": axes 0 and 1 look exchanged"),
            (&[4, 32, 24], &[24, 4, 32], ": axes [0, 1, 2] look permuted"),
            (&[1, 12, 63], &[1, 12, 64], ""),
            (&[12, 64], &[2, 12, 64], ""),
        ] {
            assert_eq!(exchanged(found, expected), said, "{found:?} {expected:?}");
        }
    }
}
