//! Everything that was judged of a run.

use serde::{Deserialize, Serialize};

use crate::{Mode, StepLimit, TokenVerdict, Verdict};

/// One tensor in one mode against its expectation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerVerdict {
    /// How the layer got its input.
    pub mode: Mode,
    /// The layer it is in; in patched mode the layer that the reference was injected behind.
    pub layer: Option<usize>,
    /// Is the expectation computed in float64 from the reference's layer input, the file having none?
    pub derived: bool,
    /// The metrics and whether it passes.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Error over limit, the worse of largest and rms, or of a preset's metrics; at most 1 passes.
    pub ratio: Option<f64>,
    /// Error over calibrated limit, whatever a preset asks for; not in reports.
    #[serde(skip)]
    pub calibrated: f64,
    /// Of a tensor that is within its limits, but not by what was observed before it: how far it may be from that; not in
    /// reports.
    #[serde(skip)]
    pub by_step: Option<StepLimit>,
    /// The smallest rms error that would not pass, as a share of the expected values' rms; `None` by a preset.
    #[serde(default)]
    pub sensitivity: Option<f64>,
    /// Values around the worst element.
    pub neighbours: Option<Neighbours>,
    /// Of logits: what is lost by believing the observed ones, mean over the tokens, in nats.
    pub kl_divergence: Option<f64>,
    /// Of logits: the share of tokens with the same best id.
    pub top1_agreement: Option<f64>,
    /// Of logits: how much less likely the reference finds the observed best id than its own, mean
    /// over the tokens, in nats.
    pub regret_nats: Option<f64>,
}

/// Values along the last axis around the worst element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// The axis.
    pub axis: usize,
    /// Index of the first value along it.
    pub start: usize,
    /// What was expected.
    pub expected: Vec<Option<f64>>,
    /// What was observed.
    pub observed: Vec<Option<f64>>,
}

/// One tensor of the cached steps behind a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepVerdict {
    /// Its key, in the first step that is beyond its limit, or the one that is nearest to it.
    pub tensor: String,
    /// The number of that step.
    pub step: usize,
    /// Error over limit of the step that is off most; at most 1 passes.
    pub ratio: f64,
    /// Do all steps pass?
    pub pass: bool,
}

/// Everything that was judged of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Every tensor compared, by mode and in the order of computation.
    pub tensors: Vec<LayerVerdict>,
    /// Every generated token.
    pub tokens: Vec<TokenVerdict>,
    /// Every tensor of the cached steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepVerdict>,
}

impl Verdicts {
    /// Was anything judged?
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.tokens.is_empty() && self.steps.is_empty()
    }

    /// Does everything pass?
    pub fn pass(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.verdict.pass)
            && self.wrong_token().is_none()
            && self.steps_pass()
    }

    /// Do all cached steps pass?
    pub fn steps_pass(&self) -> bool {
        self.steps.iter().all(|step| step.pass)
    }

    /// The tensors of a mode.
    pub fn of(&self, mode: Mode) -> impl DoubleEndedIterator<Item = &LayerVerdict> {
        self.tensors.iter().filter(move |tensor| tensor.mode == mode)
    }

    /// Those of them that do not pass.
    pub fn failing(&self, mode: Mode) -> impl DoubleEndedIterator<Item = &LayerVerdict> {
        self.of(mode).filter(|tensor| !tensor.verdict.pass)
    }

    /// The tensor `name` in a mode; in patched mode the first of that name.
    pub fn find(&self, mode: Mode, name: &str) -> Option<&LayerVerdict> {
        self.of(mode).find(|tensor| tensor.verdict.name == name)
    }

    /// The first token that is wrong and no tie.
    pub fn wrong_token(&self) -> Option<&TokenVerdict> {
        self.tokens.iter().find(|token| !token.passes())
    }
}
