use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use qwen3_model::Qwen3Config;
use safetensors::Dtype;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ImportError;
use crate::shard::{Shard, unique_entries};

/// A `config.json` or an index larger than this is not one.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// A Hugging Face checkpoint directory: its config, and the checked headers of its weight files.
///
/// Opening reads no weights.
#[derive(Debug)]
pub struct Checkpoint {
    config: Qwen3Config,
    shards: Vec<Shard>,
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
pub fn read_config(dir: impl AsRef<Path>) -> Result<Qwen3Config, ImportError> {
    let file = dir.as_ref().join("config.json");
    let text = read_json(&file)?;
    let text = std::str::from_utf8(&text).map_err(|error| ImportError::Malformed {
        file: file.clone(),
        reason: error.to_string(),
    })?;
    Qwen3Config::from_json(text).map_err(|source| ImportError::Config { file, source })
}

impl Checkpoint {
    /// Opens `dir`: reads `config.json`, then `model.safetensors` or, when there is none, the shards
    /// named by `model.safetensors.index.json`.
    ///
    /// # Errors
    /// When a file is missing, unreadable, truncated or malformed; when a key occurs twice or not
    /// where the index says; when the index points outside `dir`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ImportError> {
        let dir = dir.as_ref();
        let config = read_config(dir)?;
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let (listing, shards, keys) = if single.exists() {
            let shard = Shard::open(&single)?;
            let keys = shard.tensors.keys().map(|key| (key.clone(), 0)).collect();
            (single, vec![shard], keys)
        } else if index.exists() {
            let (shards, keys) = open_shards(dir, &index)?;
            (index, shards, keys)
        } else {
            return Err(ImportError::NoWeights { dir: dir.into() });
        };
        Ok(Self {
            config,
            shards,
            keys,
            listing,
        })
    }

    /// The architecture that `config.json` describes.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// Every tensor in the weight files, by key.
    pub fn tensors(&self) -> BTreeMap<String, TensorEntry> {
        let entry = |(key, &shard): (&String, &usize)| {
            let shard = &self.shards[shard];
            let info = &shard.tensors[key];
            let entry = TensorEntry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                file: shard.path.clone(),
            };
            (key.clone(), entry)
        };
        self.keys.iter().map(entry).collect()
    }

    /// Checks that `key` is there with `shape` and a dtype that is read; gives the file and the dtype.
    pub(crate) fn check(&self, key: &str, shape: &[usize]) -> Result<(&Path, Dtype), ImportError> {
        let Some(&shard) = self.keys.get(key) else {
            return Err(ImportError::MissingKey {
                file: self.listing.clone(),
                key: key.into(),
            });
        };
        let shard = &self.shards[shard];
        let info = &shard.tensors[key];
        if !matches!(info.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
            return Err(ImportError::TensorDType {
                file: shard.path.clone(),
                key: key.into(),
                dtype: format!("{:?}", info.dtype),
            });
        }
        if info.shape != shape {
            return Err(ImportError::Shape {
                file: shard.path.clone(),
                key: key.into(),
                expected: shape.into(),
                found: info.shape.clone(),
            });
        }
        Ok((&shard.path, info.dtype))
    }

    /// The bytes `range` of the tensor `key`, which has been checked.
    pub(crate) fn read(&mut self, key: &str, range: Range<usize>) -> Result<Vec<u8>, ImportError> {
        self.shards[self.keys[key]].read(key, range)
    }

    /// Fails when the files hold a key that `used` does not, naming the first in alphabetical order.
    pub(crate) fn check_all_used(&self, used: &HashSet<String>) -> Result<(), ImportError> {
        match self.keys.keys().filter(|key| !used.contains(*key)).min() {
            Some(key) => Err(ImportError::UnusedKey {
                file: self.shards[self.keys[key]].path.clone(),
                key: key.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Is the key in any file?
    pub fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }
}

/// Opens the shards of an index; the keys of the index and of the files must be the same.
fn open_shards(
    dir: &Path,
    index: &Path,
) -> Result<(Vec<Shard>, HashMap<String, usize>), ImportError> {
    let malformed = |reason: String| ImportError::Malformed {
        file: index.into(),
        reason,
    };
    let entries = unique_entries::<Box<RawValue>>(&read_json(index)?, index)?;
    let map = entries.iter().find(|(key, _)| key == "weight_map");
    let (_, map) = map.ok_or_else(|| malformed("`weight_map` is missing".into()))?;
    let map = unique_entries::<Value>(map.get().as_bytes(), index)?;

    let mut shards: Vec<Shard> = Vec::new();
    let mut opened: HashMap<String, usize> = HashMap::new();
    let mut keys = HashMap::new();
    for (key, target) in map {
        let name = target
            .as_str()
            .ok_or_else(|| malformed(format!("`weight_map.{key}` is {target}, not a file name")))?;
        let shard = match opened.get(name) {
            Some(&shard) => shard,
            None => {
                let mut parts = Path::new(name).components();
                let plain = matches!(
                    (parts.next(), parts.next()),
                    (Some(Component::Normal(part)), None) if part == name
                );
                if !plain || name.contains('\\') {
                    return Err(ImportError::OutsideDirectory {
                        file: index.into(),
                        key,
                        target: name.into(),
                    });
                }
                shards.push(Shard::open(&dir.join(name))?);
                opened.insert(name.into(), shards.len() - 1);
                shards.len() - 1
            }
        };
        if !shards[shard].tensors.contains_key(&key) {
            return Err(ImportError::MissingKey {
                file: shards[shard].path.clone(),
                key,
            });
        }
        keys.insert(key, shard);
    }
    for (number, shard) in shards.iter().enumerate() {
        let strays = shard
            .tensors
            .keys()
            .filter(|key| keys.get(*key) != Some(&number));
        if let Some(key) = strays.min() {
            let (file, key) = (shard.path.clone(), key.clone());
            return Err(match keys.contains_key(&key) {
                true => ImportError::DuplicateKey { file, key },
                false => ImportError::UnusedKey { file, key },
            });
        }
    }
    Ok((shards, keys))
}

/// A JSON file of a sane size.
fn read_json(file: &Path) -> Result<Vec<u8>, ImportError> {
    let (opened, length) = open_regular(file)?;
    if length > MAX_JSON_BYTES {
        return Err(ImportError::Malformed {
            file: file.into(),
            reason: format!("{length} bytes, at most {MAX_JSON_BYTES} are read"),
        });
    }
    let mut bytes = Vec::new();
    match opened.take(MAX_JSON_BYTES).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(ImportError::Io {
            file: file.into(),
            source,
        }),
    }
}

/// Opens a regular file; gives it with its length in bytes. Of a pipe or a device no length is known, and
/// opening one may wait for ever.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), ImportError> {
    let io = |source| ImportError::Io {
        file: path.into(),
        source,
    };
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(ImportError::Malformed {
            file: path.into(),
            reason: "not a regular file".into(),
        });
    }
    let file = File::open(path).map_err(io)?;
    Ok((file, metadata.len()))
}
