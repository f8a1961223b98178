//! The container.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gguf_rs_lib::format::Metadata;
use gguf_rs_lib::prelude::{GGUFFileReader, GGUFTensorType};
use qwen3_config::Precision;

use super::names;
use crate::blocks::BlockFormat;
use crate::{CheckpointError, Encoding, open_regular};

/// What a GGUF file begins with.
const MAGIC: &[u8] = b"GGUF";

/// A GGUF file: its checked headers, and the file for reading single tensors, under the keys and in the shapes of
/// Hugging Face's checkpoints.
///
/// The file is read, not mapped: a file that shrinks while it is in use gives an error and not a signal.
#[derive(Debug)]
pub(crate) struct GgufFile {
    path: PathBuf,
    file: Mutex<File>,
    tensors: HashMap<String, Tensor>,
    metadata: Metadata,
}

#[derive(Debug)]
struct Tensor {
    /// What the file calls it.
    name: String,
    encoding: Encoding,
    shape: Vec<usize>,
    /// Where its bytes start in the file.
    start: u64,
}

impl GgufFile {
    /// Does the file begin as one does?
    pub(crate) fn is_one(path: &Path) -> bool {
        let mut head = [0; MAGIC.len()];
        let read = open_regular(path).is_ok_and(|(mut file, _)| file.read_exact(&mut head).is_ok());
        read && head == MAGIC
    }

    /// Opens a file and checks its headers: counts and lengths within bounds, tensors inside of the file and apart from
    /// each other, no name twice.
    ///
    /// # Errors
    /// When it is not there, is truncated, its headers lie, or it is one of several files of a model.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let malformed = |reason: String| CheckpointError::Malformed { file: path.into(), reason };
        let (file, _) = open_regular(path)?;
        let again = file.try_clone().map_err(|source| CheckpointError::Io { file: path.into(), source })?;
        let reader = GGUFFileReader::new(BufReader::new(again))
            .map_err(|error| malformed(format!("no sound GGUF file: {error}")))?;
        let metadata = reader.metadata().clone();
        if let Some(count @ 2..) = metadata.get_u64("split.count") {
            return Err(malformed(format!(
                "one of {count} files of a model (split.count); merge them first"
            )));
        }
        let mut tensors = HashMap::new();
        for info in reader.tensor_infos() {
            let name = info.name().to_string();
            let odd = |what: &str| malformed(format!("tensor `{name}` has {what}"));
            let sizes = info.shape().dims().iter().rev().map(|size| usize::try_from(*size));
            let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| odd("too many values"))?;
            let values = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size));
            values.and_then(|values| values.checked_mul(8)).ok_or_else(|| odd("too many values"))?;
            let encoding = encoding(info.tensor_type());
            if let Encoding::Blocks(format) = encoding
                && !shape.last().is_some_and(|columns| columns.is_multiple_of(format.numbers()))
            {
                return Err(odd("rows that are no whole blocks"));
            }
            let start = reader.tensor_data_offset().checked_add(info.data_offset());
            let start = start.ok_or_else(|| odd("an offset beyond any file"))?;
            let key = names::key_of(&name);
            if tensors.insert(key.clone(), Tensor { name, encoding, shape, start }).is_some() {
                return Err(CheckpointError::DuplicateKey { file: path.into(), key });
            }
        }
        Ok(Self { path: path.into(), file: Mutex::new(file), tensors, metadata })
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says besides tensors.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The keys of its tensors, in no order: those of Hugging Face, or, of what a Qwen3 does not have, the file's.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// How tensor `key` is stored, and its shape, the last index running fastest.
    pub(crate) fn header(&self, key: &str) -> Option<(Encoding, &[usize])> {
        self.tensors.get(key).map(|tensor| (tensor.encoding.clone(), &tensor.shape[..]))
    }

    /// As many bytes of the tensor `key` as there is room for, from byte `start` on.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub(crate) fn read_into(&self, key: &str, start: usize, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        let tensor = &self.tensors[key];
        let mut file = self.file.lock().expect("no panic while held");
        let read =
            file.seek(SeekFrom::Start(tensor.start + start as u64)).and_then(|_| file.read_exact(bytes));
        read.map_err(|error| {
            let reason = format!("tensor `{}`: {error}", tensor.name);
            CheckpointError::Malformed { file: self.path.clone(), reason }
        })
    }
}

fn encoding(stored: GGUFTensorType) -> Encoding {
    match stored {
        GGUFTensorType::F32 => Encoding::Plain(Precision::F32),
        GGUFTensorType::F16 => Encoding::Plain(Precision::F16),
        GGUFTensorType::BF16 => Encoding::Plain(Precision::BF16),
        other => match BlockFormat::named(other.name()) {
            Some(format) => Encoding::Blocks(format),
            None => Encoding::Unread(other.name().into()),
        },
    }
}
