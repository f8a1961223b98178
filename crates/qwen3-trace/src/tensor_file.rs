//! Tensors in files, `.safetensors` and `.npz`.
//!
//! They are read as if they were hostile: no number in a header is trusted before it has been compared with
//! the bytes that are there.

mod decode;
mod npz;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use qwen3_checkpoint::{SafetensorsFile, open_regular};
use qwen3_config::Precision;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use self::decode::{Element, check_finite, decode, values};
use self::npz::Npz;
use crate::TraceError;

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

/// A tensor on the host.
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
    pub fn floats(&self, name: &str) -> Result<&[f32], TraceError> {
        match &self.values {
            Values::Float(values) => Ok(values),
            Values::Int(_) => {
                Err(TraceError::Values { tensor: name.into(), expected: "floats", found: "integers" })
            }
        }
    }

    /// The values as floats in float64; `name` is for the error.
    ///
    /// # Errors
    /// When the tensor holds integers.
    pub fn wide(&self, name: &str) -> Result<Vec<f64>, TraceError> {
        let values = self.floats(name)?.iter();
        Ok(values.map(|value| f64::from(*value)).collect())
    }

    /// The values as integers; `name` is for the error.
    ///
    /// # Errors
    /// When the tensor holds floats.
    pub fn ints(&self, name: &str) -> Result<&[i64], TraceError> {
        match &self.values {
            Values::Int(values) => Ok(values),
            Values::Float(_) => {
                Err(TraceError::Values { tensor: name.into(), expected: "integers", found: "floats" })
            }
        }
    }
}

/// An open tensor file of any size; a tensor is in memory when it is read.
///
/// ```no_run
/// # fn main() -> Result<(), qwen3_trace::TraceError> {
/// use std::path::Path;
///
/// use qwen3_trace::TensorFile;
/// let file = TensorFile::open(Path::new("ref/prompt1/reference.npz"))?; // or .safetensors
/// let shape = file.shape("layer_00_output")?; // [batch, seq, hidden_size]
/// let values = file.read("layer_00_output")?;
/// assert_eq!(values.wide("layer_00_output")?.len(), shape.iter().product::<usize>());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Safetensors(SafetensorsFile),
    Npz(Npz),
}

impl TensorFile {
    /// Reads a file with the ending `.safetensors`, `.safetensor` or `.npz`, and checks its list of tensors.
    ///
    /// # Errors
    /// When the file cannot be read, has another ending, or is malformed.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        // A file that is not there is not one with a wrong ending.
        open_regular(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let format = match ending {
            Some("safetensors" | "safetensor") => Format::Safetensors(SafetensorsFile::open(path)?),
            Some("npz") => Format::Npz(Npz::open(path)?),
            _ => {
                return Err(TraceError::malformed(path, "neither .safetensors nor .npz"));
            }
        };
        Ok(Self { path: path.into(), format })
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        match &self.format {
            Format::Safetensors(file) => file.info(name).is_some(),
            Format::Npz(file) => file.has(name),
        }
    }

    /// The shape of a tensor, of which its header alone is read.
    ///
    /// # Errors
    /// When there is none of this name, or its header does not fit the bytes that are there.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        match &self.format {
            Format::Safetensors(file) => Ok(self.info(file, name)?.shape.clone()),
            Format::Npz(file) => file.shape(name),
        }
    }

    /// Decodes a tensor.
    ///
    /// # Errors
    /// When there is none of this name, or it is malformed, empty, of a dtype that is not read, or holds a
    /// value that is not finite as f32.
    pub fn read(&self, name: &str) -> Result<Array, TraceError> {
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
    pub fn read_any(&self, name: &str) -> Result<Array, TraceError> {
        match &self.format {
            Format::Safetensors(file) => {
                let (dtype, shape, bytes) = self.stored(file, name)?;
                let element = match dtype {
                    Dtype::F16 => Element::F16,
                    Dtype::BF16 => Element::BF16,
                    Dtype::F32 => Element::F32,
                    Dtype::F64 => Element::F64,
                    Dtype::I32 => Element::I32,
                    Dtype::I64 => Element::I64,
                    other => {
                        let expected = "F16, BF16, F32, F64, I32 or I64";
                        return Err(self.dtype_error(name, expected, other));
                    }
                };
                decode(&self.path, name, shape, element, &bytes)
            }
            Format::Npz(file) => file.read(name),
        }
    }

    fn info<'a>(&self, file: &'a SafetensorsFile, name: &str) -> Result<&'a TensorInfo, TraceError> {
        let none = || TraceError::NoTensor { file: self.path.clone(), tensor: name.into() };
        file.info(name).ok_or_else(none)
    }

    /// A tensor's dtype, shape and bytes.
    fn stored(&self, file: &SafetensorsFile, name: &str) -> Result<(Dtype, Vec<usize>, Vec<u8>), TraceError> {
        let info = self.info(file, name)?;
        let length = info.data_offsets.1 - info.data_offsets.0;
        check_size(&self.path, name, length as u64)?;
        let bytes = file.read(name, 0..length)?;
        Ok((info.dtype, info.shape.clone(), bytes))
    }

    fn dtype_error(&self, name: &str, expected: &'static str, found: Dtype) -> TraceError {
        TraceError::DType {
            file: self.path.clone(),
            tensor: name.into(),
            expected,
            found: format!("{found:?}"),
        }
    }

    /// The names of all tensors, without the `.npy` of an npz's entries.
    pub fn names(&self) -> Vec<String> {
        match &self.format {
            Format::Safetensors(file) => file.names().map(String::from).collect(),
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
    /// When there is none of this name, or it is empty, of another dtype, or not finite; an npz file, whose
    /// dtypes do not include bf16, has none.
    pub fn read_bits(&self, name: &str) -> Result<(Precision, Vec<u16>), TraceError> {
        let Format::Safetensors(file) = &self.format else {
            return Err(TraceError::Values {
                tensor: name.into(),
                expected: "a half-precision tensor in a safetensors file",
                found: "an npz file",
            });
        };
        let (dtype, shape, bytes) = self.stored(file, name)?;
        let (precision, widen): (_, fn(u16) -> f32) = match dtype {
            Dtype::F16 => (Precision::F16, |bits| f16::from_bits(bits).to_f32()),
            Dtype::BF16 => (Precision::BF16, |bits| bf16::from_bits(bits).to_f32()),
            other => return Err(self.dtype_error(name, "F16 or BF16", other)),
        };
        if bytes.is_empty() {
            return Err(TraceError::Empty { file: self.path.clone(), tensor: name.into(), shape });
        }
        let bits = values(&bytes, u16::from_le_bytes);
        check_finite(&self.path, name, bits.iter().map(|&bits| widen(bits)))?;
        Ok((precision, bits))
    }
}

/// Fails for a tensor that takes more than [`MAX_TENSOR_BYTES`].
fn check_size(path: &Path, tensor: &str, bytes: u64) -> Result<(), TraceError> {
    if bytes > MAX_TENSOR_BYTES {
        return Err(TraceError::Tensor {
            file: path.into(),
            tensor: tensor.into(),
            reason: format!("{bytes} bytes, at most {MAX_TENSOR_BYTES} are read"),
        });
    }
    Ok(())
}
