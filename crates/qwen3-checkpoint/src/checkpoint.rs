use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use qwen3_config::{EMBEDDING, Extent, Fp8Blocks, HEAD, Precision, Qwen3Config};
use safetensors::Dtype;

use crate::files::read_json;
use crate::fp8::{Fp8Matrix, scales_key};
use crate::index::open_shards;
use crate::layout::{KeyLayout, Place};
use crate::{Adapter, CheckpointError, HostValue, SafetensorsFile};

/// Values that are best read and converted at a time: as many as stay in a core's cache.
pub const PIECE: usize = 128 << 10;

/// A Hugging Face checkpoint directory: its config, and the checked headers of its weight files.
///
/// Opening reads no weights.
///
/// ```
/// # fn main() -> Result<(), qwen3_checkpoint::CheckpointError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/gqa-tied");
/// use qwen3_checkpoint::Checkpoint;
/// use qwen3_config::Extent;
/// let checkpoint = Checkpoint::open(folder)?;
/// checkpoint.check(Extent::Whole)?; // every key, shape and dtype
/// let hidden = checkpoint.config().hidden_size;
/// let norm: Vec<f32> = checkpoint.values("model.norm.weight", &[hidden])?;
/// assert_eq!(norm.len(), hidden);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    config: Qwen3Config,
    /// How matrices are quantised, if they are.
    fp8: Option<Fp8Blocks>,
    shards: Vec<SafetensorsFile>,
    /// Which shard holds each key, as the files spell it.
    keys: HashMap<String, usize>,
    layout: KeyLayout,
    /// The file to blame for a key that is nowhere: the index, or the only weight file.
    listing: PathBuf,
    /// What the model is to be run with.
    adapter: Option<Adapter>,
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

/// How a tensor that is read is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoredAs {
    /// As numbers of this dtype.
    Plain(Precision),
    /// As eight bits, with a scale for each block.
    Fp8(Fp8Blocks),
}

/// A tensor of the model in a file.
struct Found<'a> {
    file: &'a SafetensorsFile,
    place: Place,
    stored: StoredAs,
}

impl Found<'_> {
    /// Some of the bytes of a tensor that is stored alone.
    fn bytes(&self, range: Range<usize>) -> Result<Vec<u8>, CheckpointError> {
        self.file.read(&self.place.key, range)
    }
}

/// What numbers are made of the bytes of a tensor.
enum Numbers {
    Plain(Precision),
    Fp8(Fp8Matrix),
}

/// The architecture that `config.json` in `dir` describes.
///
/// # Errors
/// When the file is missing or unreadable, or when the config is refused.
pub fn read_config(dir: impl AsRef<Path>) -> Result<Qwen3Config, CheckpointError> {
    Ok(read_configs(dir.as_ref())?.0)
}

/// The same, and how the weights are stored.
fn read_configs(dir: &Path) -> Result<(Qwen3Config, Option<Fp8Blocks>), CheckpointError> {
    let file = dir.join("config.json");
    let text = read_json(&file)?;
    let text = std::str::from_utf8(&text)
        .map_err(|error| CheckpointError::Malformed { file: file.clone(), reason: error.to_string() })?;
    let config = Qwen3Config::from_json(text).and_then(|config| Ok((config, Fp8Blocks::from_json(text)?)));
    config.map_err(|source| CheckpointError::Config { file, source })
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
        let (config, fp8) = read_configs(dir)?;
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
        let layout =
            KeyLayout::of(keys.keys().map(String::as_str)).map_err(|wrapped| CheckpointError::Wrapped {
                file: listing.clone(),
                key: wrapped.key,
                prefix: wrapped.prefix,
                by: wrapped.by,
            })?;
        Ok(Self { config, fp8, shards, keys, layout, listing, adapter: None })
    }

    /// The same, to be run with the adapter in the folder `dir` on it. Values are read as they are in the files all
    /// the same: whoever makes a model of them adds the adapter.
    ///
    /// # Errors
    /// Those of [`Adapter::open`].
    pub fn with_adapter(self, dir: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let adapter = Some(Adapter::open(dir, &self.config)?);
        Ok(Self { adapter, ..self })
    }

    /// The adapter on it, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The architecture that `config.json` describes.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// Every tensor in the weight files, by key as it is spelled there.
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
        self.keys.contains_key(self.layout.stored(key))
    }

    /// Is there a head: the embedding, when it is tied, or one in the files?
    pub fn has_head(&self) -> bool {
        self.config.tie_word_embeddings || self.contains(HEAD)
    }

    /// Checks that there is a [head](Self::has_head).
    ///
    /// # Errors
    /// [`CheckpointError::NoHead`].
    pub fn check_head(&self) -> Result<(), CheckpointError> {
        if self.has_head() {
            return Ok(());
        }
        Err(CheckpointError::NoHead { file: self.listing.clone(), key: HEAD.into() })
    }

    /// Checks that the files hold exactly so much of the model that the config describes (of an
    /// [`Extent::Encoder`], an untied head may be there or not), without reading a weight (but for a tied head that is
    /// stored as well, which is compared with the embedding).
    ///
    /// # Errors
    /// A key that is missing, unused, or of the wrong shape or dtype; a tied head that is not the embedding;
    /// [`CheckpointError::NoHead`].
    pub fn check(&self, extent: Extent) -> Result<(), CheckpointError> {
        let mut used = HashSet::new();
        for weight in self.config.weights().filter(|weight| extent.holds(&weight.key)) {
            let Found { place, stored, .. } = self.find(&weight.key, &weight.shape)?;
            if let StoredAs::Fp8(_) = stored {
                used.insert(scales_key(&place.key));
            }
            used.insert(place.key);
        }
        if !extent.holds(HEAD) {
            // Nobody looks at it.
            used.extend([HEAD.to_string(), scales_key(HEAD)]);
        } else if self.config.tie_word_embeddings && self.contains(HEAD) {
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

    /// Checks that `key` is there with `shape` and a dtype that is read.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_tensor(&self, key: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        self.find(key, shape).map(drop)
    }

    /// Where tensor `key` of `shape` is, and how it is stored there.
    fn find(&self, key: &str, shape: &[usize]) -> Result<Found<'_>, CheckpointError> {
        let place = self.place(key, shape);
        let (file, dtype) = self.header(&place.key, &place.shape)?;
        let stored = match (precision_of(dtype), self.fp8, &place.shape[..]) {
            (Some(precision), _, _) => StoredAs::Plain(precision),
            (None, Some(blocks), &[rows, columns]) if dtype == Dtype::F8_E4M3 => {
                let (key, shape) = (scales_key(&place.key), Fp8Matrix::scales_shape(blocks, [rows, columns]));
                let (file, dtype) = self.header(&key, &shape)?;
                if precision_of(dtype).is_none() {
                    return Err(not_read(file, &key, dtype));
                }
                StoredAs::Fp8(blocks)
            }
            _ => return Err(not_read(file, &place.key, dtype)),
        };
        Ok(Found { file, place, stored })
    }

    /// Where tensor `key` of `shape` is to be looked for: by itself, or, where there is no such key, among the experts
    /// of a layer that are stored as one tensor.
    fn place(&self, key: &str, shape: &[usize]) -> Place {
        let own = self.layout.stored(key);
        let alone = || Place { key: own.into(), shape: shape.into(), start: 0 };
        if self.keys.contains_key(own) {
            return alone();
        }
        let fused =
            self.config.sparse.as_ref().and_then(|sparse| Place::fused(own, shape, sparse.experts.count));
        fused.filter(|place| self.keys.contains_key(&place.key)).unwrap_or_else(alone)
    }

    /// The file and dtype of the tensor that is spelled `key` there, which must be of `shape`.
    fn header(&self, key: &str, shape: &[usize]) -> Result<(&SafetensorsFile, Dtype), CheckpointError> {
        let Some(&shard) = self.keys.get(key) else {
            let (file, key) = (self.listing.clone(), key.to_string());
            return Err(match key.as_str() {
                HEAD => CheckpointError::NoHead { file, key },
                _ => CheckpointError::MissingKey { file, key },
            });
        };
        let shard = &self.shards[shard];
        let info = shard.info(key).expect("its keys were listed");
        if info.shape != shape {
            return Err(CheckpointError::Shape {
                file: shard.path().into(),
                key: key.into(),
                expected: shape.into(),
                found: info.shape.clone(),
            });
        }
        Ok((shard, info.dtype))
    }

    /// The values of tensor `key` of `shape`, row-major, rounded to nearest even where `T` is narrower than
    /// the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn values<T: HostValue>(&self, key: &str, shape: &[usize]) -> Result<Vec<T>, CheckpointError> {
        // First, because the product of a shape that no file holds may overflow.
        self.check_tensor(key, shape)?;
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
        self.check_tensor(key, &shape)?;
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
        let Found { file, place, stored } = self.find(key, shape)?;
        let key = &place.key[..];
        let all: usize = shape.iter().product();
        assert!(start <= all && values.len() <= all - start, "values from {start} on of {all}");
        let (size, numbers) = match stored {
            StoredAs::Plain(precision) => (precision.bytes(), Numbers::Plain(precision)),
            StoredAs::Fp8(blocks) => (1, Numbers::Fp8(self.fp8_matrix(key, shape, blocks)?)),
        };
        let mut bytes = vec![0; values.len().min(PIECE) * size];
        for (piece, values) in values.chunks_mut(PIECE).enumerate() {
            let (first, bytes) = (place.start + start + piece * PIECE, &mut bytes[..values.len() * size]);
            file.read_into(key, first * size, bytes)?;
            let decoded = match &numbers {
                Numbers::Plain(precision) => T::decode(bytes, *precision, values),
                Numbers::Fp8(matrix) => matrix.decode(bytes, first, values),
            };
            decoded.map_err(|bad| CheckpointError::NonFinite {
                file: file.path().into(),
                key: key.into(),
                index: first + bad.index,
                value: bad.value,
                dtype: T::PRECISION,
            })?;
        }
        Ok(())
    }

    /// The scales of the matrix `key` of `shape`.
    fn fp8_matrix(
        &self,
        key: &str,
        shape: &[usize],
        blocks: Fp8Blocks,
    ) -> Result<Fp8Matrix, CheckpointError> {
        let &[rows, columns] = shape else {
            unreachable!("only matrices are stored so");
        };
        let scales = self.values(&scales_key(key), &Fp8Matrix::scales_shape(blocks, [rows, columns]))?;
        Ok(Fp8Matrix { blocks, columns, scales })
    }

    fn check_tied_head(&self) -> Result<(), CheckpointError> {
        const CHUNK_ROWS: usize = 4096;
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let (head, embedding) = (self.find(HEAD, &shape)?, self.find(EMBEDDING, &shape)?);
        let (row, mut equal) = match embedding.stored {
            StoredAs::Plain(precision) => (shape[1] * precision.bytes(), head.stored == embedding.stored),
            StoredAs::Fp8(_) => (shape[1], false),
        };
        for start in (0..shape[0]).step_by(CHUNK_ROWS) {
            let range = start * row..shape[0].min(start + CHUNK_ROWS) * row;
            equal = equal && head.bytes(range.clone())? == embedding.bytes(range)?;
        }
        if equal {
            return Ok(());
        }
        let file = head.file.path().into();
        Err(CheckpointError::TiedWeightsDiffer { file })
    }
}

pub(crate) fn not_read(file: &SafetensorsFile, key: &str, dtype: Dtype) -> CheckpointError {
    CheckpointError::TensorDType { file: file.path().into(), key: key.into(), dtype: format!("{dtype:?}") }
}

/// The dtypes of weights: which of a file's are read, and as what.
pub(crate) fn precision_of(stored: Dtype) -> Option<Precision> {
    match stored {
        Dtype::F32 => Some(Precision::F32),
        Dtype::F16 => Some(Precision::F16),
        Dtype::BF16 => Some(Precision::BF16),
        _ => None,
    }
}
