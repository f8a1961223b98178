mod finding;
mod loose;
mod numbers;
mod reading;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use qwen3_config::{Extent, Fp8Blocks, HEAD, Qwen3Config};

use self::numbers::StoredAs;
use self::reading::Found;
use crate::files::read_json;
use crate::fp8::scales_key;
use crate::gguf::GgufFile;
use crate::index::open_shards;
use crate::layout::KeyLayout;
use crate::weight_file::{Header, WeightFile};
use crate::{Adapter, CheckpointError, Encoding, SafetensorsFile};

pub(crate) use self::finding::not_read;
pub use self::loose::LooseTensor;

/// Values that are best read and converted at a time: as many as stay in a core's cache.
pub const PIECE: usize = 128 << 10;

/// A Hugging Face checkpoint directory, or a GGUF file of llama.cpp's: its config, and the checked headers of its weight
/// files.
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
    shards: Vec<WeightFile>,
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
    /// How its numbers are stored.
    pub encoding: Encoding,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The file that holds it.
    pub file: PathBuf,
}

/// The architecture that `config.json` in the folder `path` describes, or the GGUF file `path`.
///
/// # Errors
/// When the file is missing or unreadable, or when the config is refused.
pub fn read_config(path: impl AsRef<Path>) -> Result<Qwen3Config, CheckpointError> {
    let path = path.as_ref();
    if GgufFile::is_one(path) {
        return GgufFile::open(path)?.config();
    }
    Ok(read_configs(path)?.0)
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
    /// Opens the folder `path`: reads `config.json`, then `model.safetensors` or, when there is none, the shards
    /// named by `model.safetensors.index.json`. Or the GGUF file `path`, which has all in it.
    ///
    /// # Errors
    /// When a file is missing, unreadable, truncated or malformed; when a key occurs twice or not
    /// where the index says; when the index points outside the folder; when a GGUF file is not of a dense Qwen3.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let dir = path.as_ref();
        if GgufFile::is_one(dir) {
            return Self::of_gguf(GgufFile::open(dir)?);
        }
        let (config, fp8) = read_configs(dir)?;
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let (listing, shards, keys) = if single.exists() {
            let shard = SafetensorsFile::open(&single)?;
            let keys = shard.names().map(|key| (key.to_string(), 0)).collect();
            (single, vec![WeightFile::Safetensors(shard)], keys)
        } else if index.exists() {
            let (shards, keys) = open_shards(dir, &index)?;
            (index, shards.into_iter().map(WeightFile::Safetensors).collect(), keys)
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

    fn of_gguf(file: GgufFile) -> Result<Self, CheckpointError> {
        Ok(Self {
            config: file.config()?,
            fp8: None,
            keys: file.keys().map(|key| (key.to_string(), 0)).collect(),
            layout: KeyLayout::OfCausalLm,
            listing: file.path().into(),
            adapter: None,
            shards: vec![WeightFile::Gguf(file)],
        })
    }

    /// The files of a checkpoint that are inside of its weights, by their names: `tokenizer.json` and such of a GGUF
    /// file, none of a folder, where they lie beside.
    ///
    /// # Errors
    /// When the tokenizer of a GGUF file is not Qwen's.
    pub fn texts(&self) -> Result<BTreeMap<String, String>, CheckpointError> {
        match &self.shards[..] {
            [WeightFile::Gguf(file)] => file.texts(),
            _ => Ok(BTreeMap::new()),
        }
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
            let Header { encoding, shape } = shard.header(key).expect("its keys were listed");
            (key.clone(), TensorEntry { encoding, shape: shape.into(), file: shard.path().into() })
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
}
