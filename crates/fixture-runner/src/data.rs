//! Tensors of fixture files, `.safetensors` and `.npz`.
//!
//! The files are checked by hash before, but read as if they were hostile: no number in a header is
//! trusted before it has been compared with the bytes that are there.

mod decode;
mod npz;
mod raw;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use self::decode::check_finite;
use self::npz::Npz;
pub use self::raw::SafetensorsRaw;
use crate::error::FixtureError;
use crate::manifest::TestDType;

/// A tensor larger than this is not read: it has to fit into memory, and is there twice while it is decoded.
const MAX_TENSOR_BYTES: u64 = 4 << 30;

/// The values of a tensor, in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Every floating-point dtype, rounded to f32 from f64.
    Float(Vec<f32>),
    /// Every integer dtype.
    Int(Vec<i64>),
}

/// A tensor of a fixture.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The shape; its product is the number of values, at least 1.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Values,
}

impl Array {
    /// The values as floats; `name` is for the error.
    ///
    /// # Errors
    /// When the tensor holds integers.
    pub fn floats(&self, name: &str) -> Result<&[f32], FixtureError> {
        match &self.values {
            Values::Float(values) => Ok(values),
            Values::Int(_) => Err(FixtureError::Values {
                tensor: name.into(),
                expected: "floats",
                found: "integers",
            }),
        }
    }

    /// The values as integers; `name` is for the error.
    ///
    /// # Errors
    /// When the tensor holds floats.
    pub fn ints(&self, name: &str) -> Result<&[i64], FixtureError> {
        match &self.values {
            Values::Int(values) => Ok(values),
            Values::Float(_) => Err(FixtureError::Values {
                tensor: name.into(),
                expected: "integers",
                found: "floats",
            }),
        }
    }
}

/// An open tensor file of any size; a tensor is in memory when it is read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Safetensors(SafetensorsRaw),
    Npz(Npz),
}

impl TensorFile {
    /// Reads a file with the ending `.safetensors`, `.safetensor` or `.npz`, and checks its list of tensors.
    ///
    /// # Errors
    /// When the file cannot be read, has another ending, or is malformed.
    pub fn open(path: &Path) -> Result<Self, FixtureError> {
        // A file that is not there is not one with a wrong ending.
        open(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let format = match ending {
            Some("safetensors" | "safetensor") => Format::Safetensors(SafetensorsRaw::open(path)?),
            Some("npz") => Format::Npz(Npz::open(path)?),
            _ => {
                return Err(FixtureError::Malformed {
                    file: path.into(),
                    reason: "neither .safetensors nor .npz".into(),
                });
            }
        };
        Ok(Self {
            path: path.into(),
            format,
        })
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        match &self.format {
            Format::Safetensors(file) => file.has(name),
            Format::Npz(file) => file.has(name),
        }
    }

    /// Decodes a tensor.
    ///
    /// # Errors
    /// When there is none of this name, or it is malformed, empty, of a dtype that is not read, or holds a
    /// value that is not finite as f32.
    pub fn read(&self, name: &str) -> Result<Array, FixtureError> {
        let array = self.read_any(name)?;
        if let Values::Float(values) = &array.values {
            check_finite(&self.path, name, values.iter().copied())?;
        }
        Ok(array)
    }

    /// [`read`](Self::read) of values that need not be finite: somebody's results, not expectations.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the last.
    pub fn read_any(&self, name: &str) -> Result<Array, FixtureError> {
        match &self.format {
            Format::Safetensors(file) => file.read(name),
            Format::Npz(file) => file.read(name),
        }
    }

    /// The names of all tensors, without the `.npy` of an npz's entries.
    pub fn names(&self) -> Vec<String> {
        match &self.format {
            Format::Safetensors(file) => file.names(),
            Format::Npz(file) => file.names(),
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bits of a half-precision tensor, and which of the two half precisions they are in.
    ///
    /// # Errors
    /// As [`SafetensorsRaw::read_bits`]; an npz file, whose dtypes do not include bf16, has none.
    pub fn read_bits(&self, name: &str) -> Result<(TestDType, Vec<u16>), FixtureError> {
        match &self.format {
            Format::Safetensors(file) => file.read_bits(name),
            Format::Npz(_) => Err(FixtureError::Values {
                tensor: name.into(),
                expected: "a half-precision tensor in a safetensors file",
                found: "an npz file",
            }),
        }
    }
}

/// Opens a regular file; gives it with its length in bytes.
fn open(path: &Path) -> Result<(File, u64), FixtureError> {
    let io = |source| FixtureError::Io {
        file: path.into(),
        source,
    };
    // Before it is opened: opening a pipe waits for somebody who writes to it.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(FixtureError::Malformed {
            file: path.into(),
            reason: "not a regular file".into(),
        });
    }
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    Ok((file, length))
}

/// Fails for a tensor that takes more than [`MAX_TENSOR_BYTES`].
fn check_size(path: &Path, tensor: &str, bytes: u64) -> Result<(), FixtureError> {
    if bytes > MAX_TENSOR_BYTES {
        return Err(FixtureError::MalformedTensor {
            file: path.into(),
            tensor: tensor.into(),
            reason: format!("{bytes} bytes, at most {MAX_TENSOR_BYTES} are read"),
        });
    }
    Ok(())
}
