use std::path::Path;

use crate::gguf::GgufFile;
use crate::{CheckpointError, Encoding, SafetensorsFile};

/// A file with weights.
#[derive(Debug)]
pub(crate) enum WeightFile {
    /// As Hugging Face stores them.
    Safetensors(SafetensorsFile),
    /// As llama.cpp does.
    Gguf(GgufFile),
}

/// What a file says of a tensor.
pub(crate) struct Header<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) shape: &'a [usize],
}

impl WeightFile {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    pub(crate) fn header(&self, key: &str) -> Option<Header<'_>> {
        let (encoding, shape) = match self {
            Self::Safetensors(file) => {
                let info = file.info(key)?;
                (info.dtype.into(), &info.shape[..])
            }
            Self::Gguf(file) => file.header(key)?,
        };
        Some(Header { encoding, shape })
    }

    /// As many bytes of the tensor `key` as there is room for, from byte `start` on.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub(crate) fn read_into(&self, key: &str, start: usize, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        match self {
            Self::Safetensors(file) => file.read_into(key, start, bytes),
            Self::Gguf(file) => file.read_into(key, start, bytes),
        }
    }
}
