use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use qwen3_config::{EMBEDDING, HEAD, Precision, Qwen3Config};
use safetensors::Dtype;

use crate::files::read_json;
use crate::index::open_shards;
use crate::{CheckpointError, HostValue, SafetensorsFile};

/// Values that are best read and converted at a time: as many as stay in a core's cache.
pub const PIECE: usize = 128 << 10;

/// A Hugging Face checkpoint directory: its config, and the checked headers of its weight files.
///
/// Opening reads no weights.
#[derive(Debug)]
pub struct Checkpoint {
    config: Qwen3Config,
    shards: Vec<SafetensorsFile>,
    /// Which shard holds each key.
    keys: HashMap<String, usize>,
    /// The file to blame for a key that is nowhere: the index, or the only weight file.
    listing: PathBuf,
}

/// What a header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// The tensor's dtype in the file.
    pub dtype: Dtype,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The file that holds it.
    pub file: PathBuf,
}

/// The architecture that `config.json` in `dir` describes.
///
/// # Errors
/// When the file is missing or unreadable, or when the config is refused.
pub fn read_config(dir: impl AsRef<Path>) -> Result<Qwen3Config, CheckpointError> {
    let file = dir.as_ref().join("config.json");
    let text = read_json(&file)?;
    let text = std::str::from_utf8(&text)
        .map_err(|error| CheckpointError::Malformed { file: file.clone(), reason: error.to_string() })?;
    Qwen3Config::from_json(text).map_err(|source| CheckpointError::Config { file, source })
}

impl Checkpoint {
    /// Opens `dir`: reads `config.json`, then `model.safetensors` or, when there is none, the shards
    /// named by `model.safetensors.index.json`.
    ///
    /// # Errors
    /// When a file is missing, unreadable, truncated or malformed; when a key occurs twice or not
    /// where the index says; when the index points outside `dir`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let dir = dir.as_ref();
        let config = read_config(dir)?;
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let (listing, shards, keys) = if single.exists() {
            let shard = SafetensorsFile::open(&single)?;
            let keys = shard.names().map(|key| (key.to_string(), 0)).collect();
            (single, vec![shard], keys)
        } else if index.exists() {
            let (shards, keys) = open_shards(dir, &index)?;
            (index, shards, keys)
        } else {
            return Err(CheckpointError::NoWeights { dir: dir.into() });
        };
        Ok(Self { config, shards, keys, listing })
    }

    /// The architecture that `config.json` describes.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// Every tensor in the weight files, by key.
    pub fn tensors(&self) -> BTreeMap<String, TensorEntry> {
        let entry = |(key, &shard): (&String, &usize)| {
            let shard = &self.shards[shard];
            let info = shard.info(key).expect("its keys were listed");
            let entry =
                TensorEntry { dtype: info.dtype, shape: info.shape.clone(), file: shard.path().into() };
            (key.clone(), entry)
        };
        self.keys.iter().map(entry).collect()
    }

    /// Is the key in any file?
    pub fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Checks that the files hold exactly the model that the config describes, without reading a weight
    /// (but for a tied head that is stored as well, which is compared with the embedding).
    ///
    /// # Errors
    /// A key that is missing, unused, or of the wrong shape or dtype; a tied head that is not the embedding.
    pub fn check_model(&self) -> Result<(), CheckpointError> {
        let mut used = HashSet::new();
        for weight in self.config.weights() {
            self.check(&weight.key, &weight.shape)?;
            used.insert(weight.key);
        }
        if self.config.tie_word_embeddings && self.contains(HEAD) {
            self.check_tied_head()?;
            used.insert(HEAD.into());
        }
        match self.keys.keys().filter(|key| !used.contains(*key)).min() {
            Some(key) => Err(CheckpointError::UnusedKey {
                file: self.shards[self.keys[key]].path().into(),
                key: key.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Checks that `key` is there with `shape` and a dtype that is read; gives its file and the dtype.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(
        &self,
        key: &str,
        shape: &[usize],
    ) -> Result<(&SafetensorsFile, Precision), CheckpointError> {
        let Some(&shard) = self.keys.get(key) else {
            return Err(CheckpointError::MissingKey { file: self.listing.clone(), key: key.into() });
        };
        let shard = &self.shards[shard];
        let info = shard.info(key).expect("its keys were listed");
        let Some(precision) = precision_of(info.dtype) else {
            return Err(CheckpointError::TensorDType {
                file: shard.path().into(),
                key: key.into(),
                dtype: format!("{:?}", info.dtype),
            });
        };
        if info.shape != shape {
            return Err(CheckpointError::Shape {
                file: shard.path().into(),
                key: key.into(),
                expected: shape.into(),
                found: info.shape.clone(),
            });
        }
        Ok((shard, precision))
    }

    /// The values of tensor `key` of `shape`, row-major, rounded to nearest even where `T` is narrower than
    /// the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn values<T: HostValue>(&self, key: &str, shape: &[usize]) -> Result<Vec<T>, CheckpointError> {
        // First, because the product of a shape that no file holds may overflow.
        self.check(key, shape)?;
        let mut values = vec![T::default(); shape.iter().product()];
        self.read(key, shape, 0, &mut values)?;
        Ok(values)
    }

    /// [`values`](Self::values) of some rows of the matrix `key` of `shape`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// When the rows lie outside the matrix.
    pub fn rows<T: HostValue>(
        &self,
        key: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Vec<T>, CheckpointError> {
        self.check(key, &shape)?;
        let mut values = vec![T::default(); rows.len() * shape[1]];
        self.read(key, &shape, rows.start * shape[1], &mut values)?;
        Ok(values)
    }

    /// As many values of tensor `key` of `shape` as there is room for, from the one with flat index `start` on,
    /// rounded to nearest even where `T` is narrower than the file.
    ///
    /// # Errors
    /// When the key is missing, has another shape or a dtype that is not read, or holds a value that is not
    /// finite as `T`.
    ///
    /// # Panics
    /// When the tensor has no such values.
    pub fn read<T: HostValue>(
        &self,
        key: &str,
        shape: &[usize],
        start: usize,
        values: &mut [T],
    ) -> Result<(), CheckpointError> {
        let (file, stored) = self.check(key, shape)?;
        let size = stored.bytes();
        let all: usize = shape.iter().product();
        assert!(start <= all && values.len() <= all - start, "values from {start} on of {all}");
        let mut bytes = vec![0; values.len().min(PIECE) * size];
        for (piece, values) in values.chunks_mut(PIECE).enumerate() {
            let (first, bytes) = (start + piece * PIECE, &mut bytes[..values.len() * size]);
            file.read_into(key, first * size, bytes)?;
            T::decode(bytes, stored, values).map_err(|bad| CheckpointError::NonFinite {
                file: file.path().into(),
                key: key.into(),
                index: first + bad.index,
                value: bad.value,
                dtype: T::PRECISION,
            })?;
        }
        Ok(())
    }

    fn check_tied_head(&self) -> Result<(), CheckpointError> {
        const CHUNK_ROWS: usize = 4096;
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let (head, head_dtype) = self.check(HEAD, &shape)?;
        let (embedding, dtype) = self.check(EMBEDDING, &shape)?;
        let row = shape[1] * dtype.bytes();
        let mut equal = head_dtype == dtype;
        for start in (0..shape[0]).step_by(CHUNK_ROWS) {
            let range = start * row..shape[0].min(start + CHUNK_ROWS) * row;
            equal = equal && head.read(HEAD, range.clone())? == embedding.read(EMBEDDING, range)?;
        }
        if equal {
            return Ok(());
        }
        let file = head.path().into();
        Err(CheckpointError::TiedWeightsDiffer { file })
    }
}

/// The dtypes of weights: which of a file's are read, and as what.
fn precision_of(stored: Dtype) -> Option<Precision> {
    match stored {
        Dtype::F32 => Some(Precision::F32),
        Dtype::F16 => Some(Precision::F16),
        Dtype::BF16 => Some(Precision::BF16),
        _ => None,
    }
}
