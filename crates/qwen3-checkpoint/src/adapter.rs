//! LoRA adapters as PEFT keeps them: `adapter_config.json` beside `adapter_model.safetensors`.

mod fit;
mod key;
mod save;
mod settings;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qwen3_config::Qwen3Config;

use crate::checkpoint::not_read;
use crate::{CheckpointError, Encoding, HostValue, SafetensorsFile};
use key::{AdapterKey, Half};

pub use settings::AdapterConfig;
pub use target::{Target, TargetModules};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The change of one weight: `scale * b @ a` is added to it, with [`AdapterConfig::scale`].
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// `[rank, in]`, row-major: PEFT's `lora_A`.
    pub a: Vec<f32>,
    /// `[out, rank]`, row-major: PEFT's `lora_B`.
    pub b: Vec<f32>,
    /// Rows of `a`.
    pub rank: usize,
}

impl Factors {
    /// `[out, in]` of the weight that they change.
    ///
    /// # Panics
    /// When the factors are of another rank than they say.
    pub fn shape(&self) -> [usize; 2] {
        let whole = self.a.len().is_multiple_of(self.rank) && self.b.len().is_multiple_of(self.rank);
        assert!(whole, "factors of rank {} have {} and {} values", self.rank, self.a.len(), self.b.len());
        [self.b.len() / self.rank, self.a.len() / self.rank]
    }
}

/// A LoRA adapter, its factors on the host in f32, to which PEFT casts bf16 and f16 ones as well
/// (`autocast_adapter_dtype`).
///
/// ```no_run
/// # fn main() -> Result<(), qwen3_checkpoint::CheckpointError> {
/// use qwen3_checkpoint::{Adapter, Target, read_config};
///
/// let adapter = Adapter::open("my-adapter", &read_config("Qwen3-0.6B")?)?;
/// if let Some(factors) = adapter.factors(0, Target::QProj) {
///     println!("{:?} times {}", factors.shape(), adapter.config().scale());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Adapter {
    config: AdapterConfig,
    /// Where it came from.
    folder: PathBuf,
    factors: BTreeMap<(usize, Target), Factors>,
}

impl Adapter {
    /// Reads the adapter in the folder `dir` for a model of `model`. Every key and shape is compared with the model
    /// before the first value is read. Needs memory for the values in f32.
    ///
    /// # Errors
    /// When a file is missing, truncated or malformed; when the config asks for anything else than LoRA on linear maps
    /// of decoder layers; when a tensor is none of those, is without its other half, has another rank than the config
    /// says, or is not finite; and those of [`check`](Self::check).
    pub fn open(dir: impl AsRef<Path>, model: &Qwen3Config) -> Result<Self, CheckpointError> {
        let folder = dir.as_ref();
        let config = AdapterConfig::read(&folder.join(CONFIG))?;
        let weights = folder.join(WEIGHTS);
        if !weights.exists() && folder.join("adapter_model.bin").exists() {
            let reason = "missing; adapter_model.bin is a pickle, which is not read: save it as safetensors";
            return Err(CheckpointError::Malformed { file: weights, reason: reason.into() });
        }
        let file = SafetensorsFile::open(&weights)?;
        let pairs = pairs(&file)?;
        fit::check(folder, &config, &pairs, model)?;
        let mut factors = BTreeMap::new();
        for pair in pairs {
            let [a, b] = pair.keys;
            let (a, b) = (values(&file, &a)?, values(&file, &b)?);
            factors.insert((pair.layer, pair.target), Factors { a, b, rank: config.rank });
        }
        Ok(Self { config, folder: folder.into(), factors })
    }

    /// An adapter with these factors, as training makes them. [`save`](Self::save) writes it.
    ///
    /// # Panics
    /// When there are no factors, or some are of another rank than the config says.
    pub fn new(config: AdapterConfig, factors: BTreeMap<(usize, Target), Factors>) -> Self {
        assert!(!factors.is_empty(), "an adapter changes something");
        for factors in factors.values() {
            assert_eq!(factors.rank, config.rank, "the rank of all factors");
            factors.shape();
        }
        Self { config, folder: PathBuf::new(), factors }
    }

    /// What kind of adapter it is.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// The change of the weight `target` of layer `layer`, if it has one.
    pub fn factors(&self, layer: usize, target: Target) -> Option<&Factors> {
        self.factors.get(&(layer, target))
    }

    /// Every change, in the order of layers and targets.
    pub fn all(&self) -> impl Iterator<Item = (usize, Target, &Factors)> {
        self.factors.iter().map(|((layer, target), factors)| (*layer, *target, factors))
    }

    /// Checks that it is an adapter for a model of `model`: that all its factors fit a module that it says it changes,
    /// and that it has factors for all of those.
    ///
    /// # Errors
    /// A target that the model does not have; a tensor of a layer that is not there, of a module that is none of the
    /// targets, or of another shape; a tensor that is missing.
    pub fn check(&self, model: &Qwen3Config) -> Result<(), CheckpointError> {
        let pairs = self.all().map(|(layer, target, factors)| {
            let ([out, input], rank) = (factors.shape(), factors.rank);
            let keys = [Half::A, Half::B].map(|half| AdapterKey { layer, target, half }.spelled());
            Pair { layer, target, keys, shapes: [[rank, input], [out, rank]] }
        });
        fit::check(&self.folder, &self.config, &pairs.collect::<Vec<_>>(), model)
    }
}

/// The two tensors of a change.
struct Pair {
    layer: usize,
    target: Target,
    /// As the file spells them.
    keys: [String; 2],
    /// Of `lora_A` and `lora_B`.
    shapes: [[usize; 2]; 2],
}

/// What the header of a file says, in the order of layers and targets.
fn pairs(file: &SafetensorsFile) -> Result<Vec<Pair>, CheckpointError> {
    let path = || file.path().to_path_buf();
    let mut keys: BTreeMap<(usize, Target), [Option<String>; 2]> = BTreeMap::new();
    let mut names: Vec<&str> = file.names().collect();
    names.sort_unstable();
    for name in names {
        let unused = || CheckpointError::UnusedKey { file: path(), key: name.into() };
        let key = AdapterKey::parse(name).ok_or_else(unused)?;
        let halves = keys.entry((key.layer, key.target)).or_default();
        if halves[key.half as usize].replace(name.into()).is_some() {
            return Err(CheckpointError::DuplicateKey { file: path(), key: name.into() });
        }
    }
    let pairs = keys.into_iter().map(|((layer, target), [a, b])| {
        let missing = |half| {
            let key = AdapterKey { layer, target, half }.spelled();
            CheckpointError::MissingKey { file: path(), key }
        };
        let keys = [a.ok_or_else(|| missing(Half::A))?, b.ok_or_else(|| missing(Half::B))?];
        let shapes = [shape(file, &keys[0])?, shape(file, &keys[1])?];
        Ok(Pair { layer, target, keys, shapes })
    });
    pairs.collect()
}

/// The shape of the matrix `key`.
fn shape(file: &SafetensorsFile, key: &str) -> Result<[usize; 2], CheckpointError> {
    let shape = &file.info(key).expect("its names were listed").shape;
    <[usize; 2]>::try_from(&shape[..]).map_err(|_| CheckpointError::Malformed {
        file: file.path().into(),
        reason: format!("tensor `{key}` has shape {shape:?}, expected two dimensions"),
    })
}

/// The values of tensor `key`, whose shape is known to be right.
fn values(file: &SafetensorsFile, key: &str) -> Result<Vec<f32>, CheckpointError> {
    let info = file.info(key).expect("its names were listed");
    let precision = match Encoding::from(info.dtype) {
        Encoding::Plain(precision) => precision,
        other => return Err(not_read(file.path(), key, &other)),
    };
    let count: usize = info.shape.iter().product();
    let bytes = file.read(key, 0..count * precision.bytes())?;
    let mut values = vec![0.0; count];
    f32::decode(&bytes, precision, &mut values).map_err(|bad| CheckpointError::NonFinite {
        file: file.path().into(),
        key: key.into(),
        index: bad.index,
        value: bad.value,
        dtype: f32::PRECISION,
    })?;
    Ok(values)
}
