use std::collections::BTreeMap;

use qwen3_report::Kind;
use qwen3_trace::{Floor, Precision};
use serde::Deserialize;

/// One parity case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The id, unique in the manifest.
    pub id: String,
    /// What the case is for.
    pub description: String,
    /// What it runs.
    pub subject: Subject,
    /// Where it is known to fail.
    pub expected_failures: Vec<ExpectedFailure>,
}

/// What a case runs, and what it runs it on.
#[derive(Clone, Debug)]
pub enum Subject {
    /// One of a layer's two RMSNorms.
    RmsNorm {
        /// The layer.
        place: Place,
        /// Which of the two.
        norm: Norm,
        /// What goes in, and what should come out.
        data: Data,
        /// Transformers' own output in f16 and bf16, by expected tensor.
        same_dtype: BTreeMap<String, BTreeMap<Precision, SameDType>>,
    },
    /// A layer's SwiGLU block.
    Mlp(Place, Data),
    /// A layer's attention block.
    Attention(Place, Data),
    /// A whole decoder layer with its taps.
    DecoderLayer(Place, Data),
    /// The model from token ids to logits, then greedy decoding.
    FullModel(String, Data),
    /// A prompt read in chunks; logits at some of its columns.
    Prefill {
        /// The checkpoint.
        checkpoint: String,
        /// Tokens read at once, at least one.
        chunk_size: usize,
        /// What goes in, and what should come out.
        data: Data,
    },
    /// Attention on its own, whose weights are inputs.
    ScaledDotProductAttention(AttentionSizes, Data),
    /// The loss of a causal language model and its gradient in every parameter.
    Gradients(String, Data),
    /// Greedy decoding of many prompts, one by one and as a batch.
    Greedy(String, Data),
    /// Checkpoint to record and back.
    RecordRoundtrip(String),
}

/// A layer of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The checkpoint's name in the manifest.
    pub checkpoint: String,
    /// The layer's index.
    pub layer: usize,
}

/// A norm of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Before attention.
    InputLayernorm,
    /// Before the feed-forward block.
    PostAttentionLayernorm,
}

impl Norm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::InputLayernorm, Self::PostAttentionLayernorm];

    /// The module's name in the layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::InputLayernorm => "input_layernorm",
            Self::PostAttentionLayernorm => "post_attention_layernorm",
        }
    }
}

/// The error of Transformers' own run in each dtype, by expected tensor.
pub type NoiseFloors = BTreeMap<String, BTreeMap<Precision, Floor>>;

/// What goes into a case, and what should come out.
#[derive(Clone, Debug)]
pub struct Data {
    /// The input tensors.
    pub inputs: TensorList,
    /// The expected tensors.
    pub expected: TensorList,
    /// For each expected tensor but those that are compared exactly or not at all.
    pub noise_floors: NoiseFloors,
}

/// How the tensors of a [`Subject::ScaledDotProductAttention`] are to be read.
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
    /// The file, a key of the manifest's `files`.
    pub file: String,
    /// The tensors' names, each once.
    pub tensors: Vec<String>,
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
    pub dtype: Precision,
    /// Why; never empty.
    pub reason: String,
}

impl Case {
    /// The case's kind.
    pub fn kind(&self) -> Kind {
        match &self.subject {
            Subject::RmsNorm { .. } => Kind::RmsNorm,
            Subject::Mlp(..) => Kind::Mlp,
            Subject::Attention(..) => Kind::Attention,
            Subject::DecoderLayer(..) => Kind::DecoderLayer,
            Subject::FullModel(..) => Kind::FullModel,
            Subject::Prefill { .. } => Kind::Prefill,
            Subject::ScaledDotProductAttention(..) => Kind::ScaledDotProductAttention,
            Subject::Gradients(..) => Kind::Gradients,
            Subject::Greedy(..) => Kind::Greedy,
            Subject::RecordRoundtrip(_) => Kind::RecordRoundtrip,
        }
    }

    /// The checkpoint's name in the manifest, where the case has one.
    pub fn checkpoint(&self) -> Option<&str> {
        match &self.subject {
            Subject::RmsNorm { place, .. }
            | Subject::Mlp(place, _)
            | Subject::Attention(place, _)
            | Subject::DecoderLayer(place, _) => Some(&place.checkpoint),
            Subject::FullModel(checkpoint, _)
            | Subject::Prefill { checkpoint, .. }
            | Subject::Gradients(checkpoint, _)
            | Subject::Greedy(checkpoint, _)
            | Subject::RecordRoundtrip(checkpoint) => Some(checkpoint),
            Subject::ScaledDotProductAttention(..) => None,
        }
    }

    /// What goes in and what should come out, where both are in files.
    pub fn data(&self) -> Option<&Data> {
        match &self.subject {
            Subject::RmsNorm { data, .. }
            | Subject::Mlp(_, data)
            | Subject::Attention(_, data)
            | Subject::DecoderLayer(_, data)
            | Subject::FullModel(_, data)
            | Subject::Prefill { data, .. }
            | Subject::ScaledDotProductAttention(_, data)
            | Subject::Gradients(_, data)
            | Subject::Greedy(_, data) => Some(data),
            Subject::RecordRoundtrip(_) => None,
        }
    }

    /// Does it take minutes on a software GPU?
    pub fn is_slow(&self) -> bool {
        matches!(self.subject, Subject::Greedy(..))
    }

    /// Whether every expected tensor can be judged in `dtype`. Tokens that follow from tokens can in f32 alone:
    /// their margins are chosen for its noise.
    pub fn is_judged_in(&self, dtype: Precision) -> bool {
        if let Subject::Greedy(..) = self.subject {
            return dtype == Precision::F32;
        }
        let mut floors = self.data().into_iter().flat_map(|data| data.noise_floors.values());
        floors.all(|floors| floors.contains_key(&dtype))
    }
}
