use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::CheckpointError;
use crate::open_regular;

/// The format's own limit on the header, and ours.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One safetensors file: its checked header, and the file for reading single tensors.
///
/// The file is read, not mapped: a file that shrinks while it is in use gives an error and not a signal.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the tensors' bytes start in the file.
    data_start: u64,
    tensors: HashMap<String, TensorInfo>,
}

impl SafetensorsFile {
    /// Opens a file and checks its header against its length: offsets in order without holes or
    /// overlaps, shapes and dtypes matching the byte ranges, no key twice.
    ///
    /// # Errors
    /// When it is not there, is truncated, or its header lies.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { file: path.into(), source };
        let malformed = |reason: String| CheckpointError::Malformed { file: path.into(), reason };

        let (mut file, length) = open_regular(path)?;
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(malformed(format!("{length} bytes are too few for a safetensors file")));
        }
        file.read_exact(&mut prefix).map_err(io)?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > (length - 8).min(MAX_HEADER_BYTES) {
            return Err(malformed(format!(
                "header of {header_bytes} bytes does not fit a file of {length} bytes (truncated, or not safetensors)"
            )));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(io)?;

        let entries = unique_entries::<Box<RawValue>>(&header, path)?;
        let mut metadata = None;
        let mut tensors = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let bad = |error| malformed(format!("safetensors header, `{key}`: {error}"));
            match key.as_str() {
                "__metadata__" => metadata = serde_json::from_str(value.get()).map_err(bad)?,
                _ => {
                    let info: TensorInfo = serde_json::from_str(value.get()).map_err(bad)?;
                    tensors.push((key, info));
                }
            }
        }
        let mut ordered = tensors.clone();
        ordered.sort_by_key(|(_, info)| info.data_offsets);
        let checked = Metadata::new(metadata, ordered)
            .map_err(|error| malformed(format!("safetensors header: {error}")))?;
        let (expected, found) = (checked.data_len() as u64, length - 8 - header_bytes);
        if expected != found {
            return Err(malformed(format!(
                "the header describes {expected} bytes of tensors but the file has {found} (truncated or overlong)"
            )));
        }
        Ok(Self {
            path: path.into(),
            file: Mutex::new(file),
            data_start: 8 + header_bytes,
            tensors: tensors.into_iter().collect(),
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What the header says of tensor `key`, if there is one.
    pub fn info(&self, key: &str) -> Option<&TensorInfo> {
        self.tensors.get(key)
    }

    /// The bytes `range` of the tensor `key`, counted from the tensor's start.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn read(&self, key: &str, range: Range<usize>) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; range.len()];
        self.read_into(key, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// [`read`](Self::read) of as many bytes as there is room for, from `start` on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn read_into(&self, key: &str, start: usize, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        let start = self.data_start + (self.tensors[key].data_offsets.0 + start) as u64;
        let mut file = self.file.lock().expect("no panic while held");
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(bytes)).map_err(|error| {
            CheckpointError::Malformed { file: self.path.clone(), reason: format!("tensor `{key}`: {error}") }
        })
    }
}

/// The entries of a JSON object in file order.
///
/// # Errors
/// [`CheckpointError::DuplicateKey`] when a key occurs twice, which JSON libraries pass over in silence.
pub fn unique_entries<V: DeserializeOwned>(
    json: &[u8],
    file: &Path,
) -> Result<Vec<(String, V)>, CheckpointError> {
    let Entries(entries) = serde_json::from_slice(json)
        .map_err(|error| CheckpointError::Malformed { file: file.into(), reason: error.to_string() })?;
    let mut keys = HashSet::new();
    match entries.iter().find(|(key, _)| !keys.insert(key.as_str())) {
        Some((key, _)) => Err(CheckpointError::DuplicateKey { file: file.into(), key: key.clone() }),
        None => Ok(entries),
    }
}

/// A JSON object as a list, so that no entry is lost.
struct Entries<V>(Vec<(String, V)>);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);
        impl<'de, V: DeserializeOwned> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}
