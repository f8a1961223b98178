//! The catalogue of parity cases, `manifest.json`, checked once, when it is read.

mod check;
mod dtype;
mod raw;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::dtype::TestDType;
use crate::error::FixtureError;

/// The schema version that is read.
const SCHEMA: u64 = 1;
/// A manifest larger than this is not one.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Expected tensors without a noise floor: they are compared exactly or not at all.
pub const WITHOUT_FLOORS: [&str; 2] = ["generated_ids", "margins"];

/// A manifest whose entries and cross references have been checked. Its files have not been read.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The manifest's folder, canonical; every path is relative to it and stays inside it.
    pub root: PathBuf,
    /// What made the fixtures: package versions and script hashes.
    pub generator: serde_json::Value,
    /// The checkpoints by name.
    pub checkpoints: BTreeMap<String, CheckpointFiles>,
    /// SHA-256 of each tensor file, by its path.
    pub files: BTreeMap<String, String>,
    /// The cases in the file's order; no two have the same id.
    pub cases: Vec<Case>,
}

/// A checkpoint folder and what belongs in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFiles {
    /// The folder, relative to the manifest's.
    pub path: String,
    /// SHA-256 of each file, by its name in the folder.
    #[serde(deserialize_with = "raw::unique")]
    pub files: BTreeMap<String, String>,
}

/// What a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One of a layer's two RMSNorms.
    RmsNorm,
    /// A layer's SwiGLU block.
    Mlp,
    /// A layer's attention block.
    Attention,
    /// A whole decoder layer with its taps.
    DecoderLayer,
    /// The model from token ids to logits, then greedy decoding.
    FullModel,
    /// A prompt read in chunks of a given size; logits at some of its columns.
    Prefill,
    /// Attention on its own, from projections to projection, without norms and RoPE.
    ScaledDotProductAttention,
    /// The loss of a causal language model and its gradient in every parameter.
    Gradients,
    /// Greedy decoding of many prompts, one by one and as a batch.
    Greedy,
    /// Checkpoint to record and back.
    RecordRoundtrip,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::RmsNorm,
        Self::Mlp,
        Self::Attention,
        Self::DecoderLayer,
        Self::FullModel,
        Self::Prefill,
        Self::ScaledDotProductAttention,
        Self::Gradients,
        Self::Greedy,
        Self::RecordRoundtrip,
    ];

    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::RmsNorm => "rms_norm",
            Self::Mlp => "mlp",
            Self::Attention => "attention",
            Self::DecoderLayer => "decoder_layer",
            Self::FullModel => "full_model",
            Self::Prefill => "prefill",
            Self::ScaledDotProductAttention => "scaled_dot_product_attention",
            Self::Gradients => "gradients",
            Self::Greedy => "greedy",
            Self::RecordRoundtrip => "record_roundtrip",
        }
    }

    /// Does the kind take minutes on a software GPU?
    pub fn is_slow(self) -> bool {
        self == Self::Greedy
    }

    /// Does the kind run a part of one layer?
    pub fn is_layer(self) -> bool {
        matches!(
            self,
            Self::RmsNorm | Self::Mlp | Self::Attention | Self::DecoderLayer
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One parity case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The id, unique in the manifest.
    pub id: String,
    /// What the case runs.
    pub kind: Kind,
    /// What the case is for.
    pub description: String,
    /// The checkpoint's name in [`Manifest::checkpoints`]; none for
    /// [`Kind::ScaledDotProductAttention`], whose weights are inputs.
    pub checkpoint: Option<String>,
    /// The layer's index; there for the layer kinds and only for them.
    pub layer: Option<usize>,
    /// `input_layernorm` or `post_attention_layernorm`; there for [`Kind::RmsNorm`] and only for it.
    pub module: Option<String>,
    /// What the shapes of the inputs do not say; there for [`Kind::ScaledDotProductAttention`] and only
    /// for it.
    pub attention: Option<AttentionSizes>,
    /// Tokens read at once; there for [`Kind::Prefill`] and only for it.
    pub chunk_size: Option<usize>,
    /// The input tensors; none for [`Kind::RecordRoundtrip`].
    pub inputs: Option<TensorList>,
    /// The expected tensors; none for [`Kind::RecordRoundtrip`].
    pub expected: Option<TensorList>,
    /// The error of Transformers' own run in each dtype, for each expected tensor but [`WITHOUT_FLOORS`].
    pub noise_floors: BTreeMap<String, BTreeMap<TestDType, Floor>>,
    /// Transformers' own output in f16 and bf16, by expected tensor; [`Kind::RmsNorm`] only.
    pub same_dtype: BTreeMap<String, BTreeMap<TestDType, SameDType>>,
    /// Where the case is known to fail.
    pub expected_failures: Vec<ExpectedFailure>,
}

/// How the tensors of a [`Kind::ScaledDotProductAttention`] are to be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionSizes {
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Whether a query sees only the keys up to its own place. Queries then arrive with the keys;
    /// otherwise all of them come after each chunk of keys.
    pub causal: bool,
    /// How many keys arrive at once; all of them together.
    pub chunks: Vec<usize>,
}

/// Tensors of one file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorList {
    /// The file, a key of [`Manifest::files`].
    pub file: String,
    /// The tensors' names, each once.
    pub tensors: Vec<String>,
}

/// The error of Transformers' own run against its float64 run, over the positions that count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The largest absolute error.
    pub max_abs: f64,
    /// The root of the mean squared error.
    pub rms: f64,
}

/// Transformers' own output in a dtype.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SameDType {
    /// The tensor in the file of the expected tensors, stored in the dtype itself.
    pub tensor: String,
    /// The share of its elements that differ from an oracle that computes in float64 between the same
    /// rounding points.
    pub unequal: f64,
}

/// A failure that is known; if the case passes, that is a failure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFailure {
    /// The backend.
    pub backend: String,
    /// The dtype.
    pub dtype: TestDType,
    /// Why; never empty.
    pub reason: String,
}

impl Manifest {
    /// Reads and checks a manifest; its folder becomes the root of all its paths.
    ///
    /// # Errors
    /// When the file cannot be read, is larger than 64 MiB, is not JSON of schema 1 (unknown fields and
    /// duplicate keys included), or when an entry or case is inconsistent; names the case.
    pub fn read(path: &Path) -> Result<Self, FixtureError> {
        let io = |source| FixtureError::Io {
            file: path.into(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mut text = Vec::new();
        // Bounds the read itself: a pipe or a growing file has no length to check beforehand.
        file.take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            let length = std::fs::metadata(path).map_err(io)?.len();
            return Err(FixtureError::TooLarge {
                file: path.into(),
                bytes: length.max(text.len() as u64),
                limit: MAX_MANIFEST_BYTES,
            });
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        check::manifest(path, folder.canonicalize().map_err(io)?, &text)
    }

    /// The packages that made the expected values, as in `transformers 5.23.0, torch 2.9.0`; empty when
    /// [`Manifest::generator`] has neither.
    pub fn oracle(&self) -> String {
        let version = |name: &&str| self.generator["packages"][*name].as_str();
        let packages = ["transformers", "torch"].into_iter();
        let found = packages.filter_map(|name| Some(format!("{name} {}", version(&name)?)));
        found.collect::<Vec<_>>().join(", ")
    }
}
