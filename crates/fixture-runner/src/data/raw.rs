use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::decode::{Element, check_finite, decode, values};
use super::{Array, check_size};
use crate::error::FixtureError;
use crate::manifest::TestDType;

/// A header longer than this is none of a safetensors file's: the format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open safetensors file, its header checked against its length.
#[derive(Debug)]
pub struct SafetensorsRaw {
    path: PathBuf,
    file: File,
    /// Where the tensors start.
    data_start: u64,
    header: Metadata,
}

impl SafetensorsRaw {
    /// Opens a file and checks its header: offsets in order without holes or overlaps, shapes and dtypes
    /// matching the byte ranges, the last range ending with the file.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn open(path: &Path) -> Result<Self, FixtureError> {
        let malformed = |reason: String| FixtureError::Malformed {
            file: path.into(),
            reason,
        };
        let (mut file, bytes) = super::open(path)?;
        if bytes < 8 {
            return Err(malformed(format!(
                "{bytes} bytes are too few for a safetensors file"
            )));
        }
        let io = |source| FixtureError::Io {
            file: path.into(),
            source,
        };
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(io)?;
        let length = u64::from_le_bytes(prefix);
        if length > (bytes - 8).min(MAX_HEADER_BYTES) {
            return Err(malformed(format!(
                "a header of {length} bytes does not fit a file of {bytes} bytes"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        // Not `SafeTensors::read_metadata`: its sum of lengths can overflow on a header that lies.
        let data_bytes = bytes - 8 - length;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| malformed(format!("safetensors header: {error}")))?;
        if header.data_len() as u64 != data_bytes {
            return Err(malformed(format!(
                "the header describes {} bytes of tensors but the file has {data_bytes}",
                header.data_len()
            )));
        }
        Ok(Self {
            path: path.into(),
            file,
            data_start: 8 + length,
            header,
        })
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.header.tensors().into_keys().collect()
    }

    /// Decodes a tensor; see [`super::TensorFile::read_any`].
    ///
    /// # Errors
    /// When there is none of this name, or it is empty or of a dtype that is not read.
    pub fn read(&self, name: &str) -> Result<Array, FixtureError> {
        let (dtype, shape, bytes) = self.tensor(name)?;
        let element = match dtype {
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            Dtype::I32 => Element::I32,
            Dtype::I64 => Element::I64,
            _ => return Err(self.dtype_error(name, "F16, BF16, F32, F64, I32 or I64", dtype)),
        };
        decode(&self.path, name, shape.to_vec(), element, &bytes)
    }

    /// The bit patterns of a tensor that is stored as F16 or BF16.
    ///
    /// # Errors
    /// When there is none of this name, or it is empty, of another dtype, or not finite.
    pub fn read_bits(&self, name: &str) -> Result<(TestDType, Vec<u16>), FixtureError> {
        let (dtype, shape, bytes) = self.tensor(name)?;
        let (dtype, widen): (_, fn(u16) -> f32) = match dtype {
            Dtype::F16 => (TestDType::F16, |bits| f16::from_bits(bits).to_f32()),
            Dtype::BF16 => (TestDType::Bf16, |bits| bf16::from_bits(bits).to_f32()),
            _ => return Err(self.dtype_error(name, "F16 or BF16", dtype)),
        };
        if bytes.is_empty() {
            return Err(FixtureError::Empty {
                file: self.path.clone(),
                tensor: name.into(),
                shape: shape.into(),
            });
        }
        let bits = values(&bytes, u16::from_le_bytes);
        check_finite(&self.path, name, bits.iter().map(|&bits| widen(bits)))?;
        Ok((dtype, bits))
    }

    /// A tensor's dtype, shape and bytes.
    fn tensor(&self, name: &str) -> Result<(Dtype, &[usize], Vec<u8>), FixtureError> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| FixtureError::NoTensor {
                file: self.path.clone(),
                tensor: name.into(),
            })?;
        let (start, end) = info.data_offsets;
        check_size(&self.path, name, (end - start) as u64)?;
        let mut bytes = vec![0; end - start];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| FixtureError::Io {
                file: self.path.clone(),
                source,
            })?;
        Ok((info.dtype, &info.shape, bytes))
    }

    fn dtype_error(&self, name: &str, expected: &'static str, found: Dtype) -> FixtureError {
        FixtureError::DType {
            file: self.path.clone(),
            tensor: name.into(),
            expected,
            found: format!("{found:?}"),
        }
    }
}
