//! What a parity run found, as its JSON has it.

use std::fmt;

use qwen3_trace::{Backend, Precision, Switches, Verdict};
use serde::{Deserialize, Serialize};

use crate::{BURN_VERSION, Label, SCHEMA, Status, serde_forms};

/// What a parity case runs.
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

    /// The name in manifests and reports.
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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParityReport {
    /// The form's version, 1.
    pub schema: u32,
    /// The Burn release.
    #[serde(default)]
    pub burn: String,
    /// Every case on every backend and dtype, in the order in which they ended.
    pub results: Vec<CaseResult>,
}

impl Default for ParityReport {
    fn default() -> Self {
        Self { schema: SCHEMA, burn: BURN_VERSION.into(), results: Vec::new() }
    }
}

impl ParityReport {
    /// The report as JSON text.
    ///
    /// # Panics
    /// Never: every field has a form in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a form in JSON") + "\n"
    }

    /// How many cases ended so.
    pub fn count(&self, status: Status) -> usize {
        let same = |result: &&CaseResult| result.status == status;
        self.results.iter().filter(same).count()
    }
}

/// One case on one backend in one dtype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's id.
    pub case: String,
    /// The case's kind.
    pub kind: Kind,
    /// The backend.
    pub backend: Backend,
    /// The precision.
    pub dtype: Precision,
    /// How it was computed, when not in the usual way: `without kernels`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Wall time of loading and computing, in milliseconds; comparing is not counted.
    pub elapsed_ms: f64,
    /// Every tensor compared, in the order of computation.
    #[serde(default, deserialize_with = "serde_forms::null_as_default")]
    pub tensors: Vec<Verdict>,
    /// Why, when the status needs saying more: a crash, an unavailable backend, an expected failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Fusion and autotune, where the backend has them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub switches: Option<Switches>,
}

impl CaseResult {
    /// What the case was run on: `flex f32 (without kernels)`.
    pub fn label(&self) -> Label {
        Label { variant: self.variant.clone(), ..Label::new(self.backend.name(), self.dtype) }
    }
}
