//! Tensors in files and folders: a [`Format`] each, below this module.
//!
//! They are read as if they were hostile: no number in a header is trusted before it has been compared with
//! the bytes that are there, and nothing that a file asks for is executed.

mod archive;
mod debug_tree;
mod decode;
mod npy;
mod npy_files;
mod npz;
mod pickle;
mod printed;
mod safetensors;
mod strided;
#[cfg(test)]
mod tests;
mod torch;

use std::fmt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use qwen3_checkpoint::open_regular;
use qwen3_config::Precision;

use self::debug_tree::DebugTree;
use self::decode::{Element, check_finite, decode, values};
use self::npy_files::NpyFiles;
use self::npz::Npz;
use self::safetensors::Safetensors;
use self::torch::Torch;
use crate::TraceError;

/// A tensor larger than this is not read: it has to fit into memory, and is there twice while it is decoded.
const MAX_TENSOR_BYTES: u64 = 4 << 30;
/// Bytes of a tensor's name in formats that put it together from parts.
const MAX_NAME: usize = 1024;
/// What may be opened.
const KNOWN: &str = "neither .safetensors, .npz, .npy, .pt, .pth, .bin nor a *_FULL_TENSORS.json";

/// The values of a tensor, in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Every floating-point dtype, rounded to f32 from f64.
    Float(Vec<f32>),
    /// Every integer dtype, and booleans as 0 and 1.
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

/// An open file or folder of tensors, of any size; a tensor is in memory when it is read.
///
/// ```no_run
/// # fn main() -> Result<(), qwen3_trace::TraceError> {
/// use std::path::Path;
///
/// use qwen3_trace::TensorFile;
/// let file = TensorFile::open(Path::new("ref/prompt1/reference.npz"))?; // or .safetensors, .pt, ..
/// let shape = file.shape("layer_00_output")?; // [batch, seq, hidden_size]
/// let values = file.read("layer_00_output")?;
/// assert_eq!(values.wide("layer_00_output")?.len(), shape.iter().product::<usize>());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    format: Box<dyn Format>,
}

/// The tensors of a file or folder by their names.
trait Format: fmt::Debug + Send {
    /// The names of all tensors.
    fn names(&self) -> Vec<String>;

    /// Is there a tensor of this name?
    fn has(&self, name: &str) -> bool;

    /// A tensor's shape, of which as little as possible is read.
    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError>;

    /// A tensor as it is stored.
    fn stored(&self, name: &str) -> Result<Stored, TraceError>;

    /// The files of a folder that hold no tensor.
    fn others(&self) -> &[String] {
        &[]
    }
}

/// The bytes of a tensor: little-endian values in C order, as many as its shape has.
struct Stored {
    element: Element,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Opens tensors and checks their list. By the ending: `.safetensors` (`.safetensor`), `.npz`, `.npy` (one tensor,
    /// of the file's name), and what `torch.save` writes as `.pt`, `.pth` or `.bin`: tensors in dictionaries, lists and
    /// tuples, whose keys and numbers are joined with dots; a tensor alone has the file's name. A `.json` is the
    /// `*_FULL_TENSORS.json` of Transformers' `model_addition_debugger_context`: each module's output under its path
    /// below the model, a tensor that it was given as `<path>.inputs.args.0` or `<path>.inputs.kwargs.<name>`. A folder
    /// has such a file, or `.npy` files that are tensors under their paths in it.
    ///
    /// # Errors
    /// When it cannot be read, is none of these, or is malformed; a pickle that asks for anything but tensors is
    /// refused, and nothing of it is executed.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        if path.is_dir() {
            let format: Box<dyn Format> = match DebugTree::in_folder(path)? {
                Some(file) => Box::new(DebugTree::open(&file)?),
                None => Box::new(NpyFiles::in_folder(path)?),
            };
            return Ok(Self { path: path.into(), format });
        }
        // A file that is not there is not one with a wrong ending.
        open_regular(path)?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        let format: Box<dyn Format> = match ending {
            Some("safetensors" | "safetensor") => Box::new(Safetensors::open(path)?),
            Some("npz") => Box::new(Npz::open(path)?),
            Some("npy") => Box::new(NpyFiles::one(path)?),
            Some("pt" | "pth" | "bin") => Box::new(Torch::open(path)?),
            Some("json") => Box::new(DebugTree::open(path)?),
            _ => return Err(TraceError::malformed(path, KNOWN)),
        };
        Ok(Self { path: path.into(), format })
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        self.format.has(name)
    }

    /// The shape of a tensor, of which its header alone is read.
    ///
    /// # Errors
    /// When there is none of this name, or its header does not fit the bytes that are there.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        self.format.shape(name)
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
        decode(&self.path, name, self.format.stored(name)?)
    }

    /// The names of all tensors in order, without the `.npy` of an npz's entries.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.format.names();
        names.sort_unstable();
        names
    }

    /// The files of a folder that hold no tensor, by their paths in it; hidden ones are left out.
    pub fn others(&self) -> &[String] {
        self.format.others()
    }

    /// Where the file or folder lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bits of a half-precision tensor, and which of the two half precisions they are in.
    ///
    /// # Errors
    /// When there is none of this name, or it is empty, of another dtype, or not finite.
    pub fn read_bits(&self, name: &str) -> Result<(Precision, Vec<u16>), TraceError> {
        let Stored { element, shape, bytes } = self.format.stored(name)?;
        let (precision, widen): (_, fn(u16) -> f32) = match element {
            Element::F16 => (Precision::F16, |bits| f16::from_bits(bits).to_f32()),
            Element::BF16 => (Precision::BF16, |bits| bf16::from_bits(bits).to_f32()),
            other => return Err(dtype_error(&self.path, name, "F16 or BF16", format!("{other:?}"))),
        };
        if bytes.is_empty() {
            return Err(TraceError::Empty { file: self.path.clone(), tensor: name.into(), shape });
        }
        let bits = values(&bytes, u16::from_le_bytes);
        check_finite(&self.path, name, bits.iter().map(|&bits| widen(bits)))?;
        Ok((precision, bits))
    }
}

fn no_tensor(file: &Path, name: &str) -> TraceError {
    TraceError::NoTensor { file: file.into(), tensor: name.into() }
}

fn dtype_error(file: &Path, name: &str, expected: &'static str, found: String) -> TraceError {
    TraceError::DType { file: file.into(), tensor: name.into(), expected, found }
}

/// What is wrong with a tensor of a file.
fn malformed(file: &Path, name: &str, reason: impl fmt::Display) -> TraceError {
    TraceError::Tensor { file: file.into(), tensor: name.into(), reason: reason.to_string() }
}

/// Fails for a name that is longer than [`MAX_NAME`].
fn check_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("a name of more than {MAX_NAME} bytes: `{}`", shown(name)));
    }
    Ok(())
}

/// A name in an error.
fn shown(name: &str) -> String {
    name.chars().take(120).flat_map(char::escape_debug).collect()
}

/// Fails for a tensor that takes more than [`MAX_TENSOR_BYTES`].
fn check_size(path: &Path, tensor: &str, bytes: u64) -> Result<(), TraceError> {
    if bytes > MAX_TENSOR_BYTES {
        return Err(malformed(path, tensor, format!("{bytes} bytes, at most {MAX_TENSOR_BYTES} are read")));
    }
    Ok(())
}
