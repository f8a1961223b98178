use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use burn_pack::Tensor;
use burn_std::{DType, Reader};
use qwen3_checkpoint::{CheckpointError, PIECE, open_regular};
use qwen3_config::{HEAD, Precision, Qwen3Config};

use crate::Checksums;

/// Where a record keeps its model's `config.json`.
pub const CONFIG_KEY: &str = "config.json";
/// What the names of other texts begin with in the metadata.
pub const TEXT_PREFIX: &str = "file:";

/// An open record: its config, its texts and the headers of its tensors.
///
/// Opening reads no weights.
#[derive(Clone)]
pub struct RecordFile {
    file: PathBuf,
    config: Qwen3Config,
    texts: BTreeMap<String, String>,
    tensors: Vec<Tensor>,
    checksums: Option<Checksums>,
}

impl RecordFile {
    /// Opens the record `file`.
    ///
    /// # Errors
    /// When the file is not a record of a Qwen3 model, is truncated, or has a text with another checksum than was
    /// written.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let file = file.as_ref();
        let (_, length) = open_regular(file)?;
        let reader = burn_pack::Reader::from_file_exact(file).map_err(|error| malformed(file, error))?;
        let checksums = checksums(file, &reader)?;
        let config = reader
            .metadata()
            .get(CONFIG_KEY)
            .ok_or_else(|| malformed(file, "no config.json in the record's metadata"))?;
        let config = Qwen3Config::from_json(config)
            .map_err(|source| CheckpointError::Config { file: file.into(), source })?;
        let texts = reader.metadata().iter().filter_map(|(key, text)| {
            let name = key.strip_prefix(TEXT_PREFIX)?;
            Some((name.to_string(), text.clone()))
        });
        let texts = texts.collect();
        let tensors = reader.into_tensors().map_err(|error| malformed(file, error))?;
        // Each fits the file; tensors that share bytes could still unfold to any multiple of it.
        let bytes: u64 = tensors.iter().map(|tensor| tensor.byte_len() as u64).sum();
        if bytes > length {
            let reason = format!("{bytes} bytes of tensors in a file of {length} bytes: they overlap");
            return Err(malformed(file, reason));
        }
        Ok(Self { file: file.into(), config, texts, tensors, checksums })
    }

    /// Is there a head: the embedding, when it is tied, or one of its own?
    pub fn has_head(&self) -> bool {
        self.config.tie_word_embeddings || self.tensors.iter().any(|tensor| is_of_head(&tensor.name))
    }

    /// Checks that there is a [head](Self::has_head).
    ///
    /// # Errors
    /// [`CheckpointError::NoHead`].
    pub fn check_head(&self) -> Result<(), CheckpointError> {
        if self.has_head() {
            return Ok(());
        }
        Err(CheckpointError::NoHead { file: self.file.clone(), key: HEAD.into() })
    }

    /// Are there checksums in it, by which damage to weights is noticed?
    pub fn has_checksums(&self) -> bool {
        self.checksums.is_some()
    }

    /// The architecture of the model inside.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// A file that was saved with the model, by its name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The dtype and the shape of every tensor, by its name in the record.
    pub fn tensors(&self) -> BTreeMap<String, (DType, Vec<usize>)> {
        let entry = |tensor: &Tensor| (tensor.name.clone(), (tensor.dtype, tensor.shape.to_vec()));
        self.tensors.iter().map(entry).collect()
    }

    /// The headers of the tensors, in the order of the file.
    pub fn headers(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Hands the bytes of one of its tensors to `piece`, [`PIECE`] values at a time, each with the flat index of its first
    /// value; then compares their checksum, if there is one.
    ///
    /// # Errors
    /// When the tensor is stored as none of f32, f16 and bf16, cannot be read, or is not what was written.
    pub fn read(
        &self,
        tensor: &Tensor,
        mut piece: impl FnMut(usize, Precision, &[u8]),
    ) -> Result<(), CheckpointError> {
        let key = &tensor.name;
        let unreadable = |reason: &dyn Display| malformed(&self.file, format!("tensor `{key}`: {reason}"));
        let stored = precision_of(tensor.dtype).ok_or_else(|| CheckpointError::TensorDType {
            file: self.file.clone(),
            key: key.clone(),
            dtype: format!("{:?}", tensor.dtype),
        })?;
        let (_, _, shape, _, bytes) = tensor.clone().into_parts().map_err(|error| unreadable(&error))?;
        let (found, expected) = (bytes.len(), shape.num_elements() * stored.bytes());
        if found != expected {
            return Err(unreadable(&format!("{found} bytes where its shape takes {expected}")));
        }
        let mut checksum = crc32fast::Hasher::new();
        let size = PIECE * stored.bytes();
        for (number, start) in (0..bytes.len()).step_by(size).enumerate() {
            let part = bytes.view(start, bytes.len().min(start + size));
            let part = part.map_err(|error| unreadable(&format!("{error:?}")))?;
            let part = part.read(Reader::new()).map_err(|error| unreadable(&error))?;
            checksum.update(part);
            piece(number * PIECE, stored, part);
        }
        let Some(checksums) = &self.checksums else { return Ok(()) };
        let compared = checksums.compare(key, checksum.finalize());
        compared.map_err(|reason| malformed(&self.file, format!("tensor {reason}")))
    }
}

/// The checksums of a record, if it has any; fails when they are not of all that is in it, or a text has another.
fn checksums(file: &Path, reader: &burn_pack::Reader) -> Result<Option<Checksums>, CheckpointError> {
    let metadata = reader.metadata();
    let Some(text) = metadata.get(Checksums::KEY) else {
        return Ok(None);
    };
    let checksums =
        Checksums::parse(text).ok_or_else(|| malformed(file, "its checksums are not readable"))?;
    let ours = |key: &&String| *key == CONFIG_KEY || key.starts_with(TEXT_PREFIX);
    let texts = metadata.keys().filter(ours).map(String::as_str);
    if let Some(name) = checksums.odd_one(texts.clone().chain(reader.tensor_names())) {
        return Err(malformed(file, format!("`{name}` has no checksum, or is missing")));
    }
    for key in texts {
        checksums.check(key, metadata[key].as_bytes()).map_err(|reason| malformed(file, reason))?;
    }
    Ok(Some(checksums))
}

/// Is it the name of a block of the head, `lm_head.weight.0`?
pub fn is_of_head(name: &str) -> bool {
    name.strip_prefix(HEAD).is_some_and(|rest| rest.starts_with('.'))
}

/// The dtypes of weights.
fn precision_of(stored: DType) -> Option<Precision> {
    match stored {
        DType::F32 => Some(Precision::F32),
        DType::F16 => Some(Precision::F16),
        DType::BF16 => Some(Precision::BF16),
        _ => None,
    }
}

/// What is wrong with a record.
pub fn malformed(file: &Path, reason: impl ToString) -> CheckpointError {
    CheckpointError::Malformed { file: file.into(), reason: reason.to_string() }
}
