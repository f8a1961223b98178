//! A part of the model between two known points, what was observed in it, and implementations of it to try.

use std::ops::Range;

use qwen3_config::Site;
use qwen3_trace::{StepLimit, TensorLimit};

use crate::residual::Residual;
use crate::variant::Variant;

/// A step of the model after the embedding: `0..layers` are the decoder layers, then the final norm,
/// then the head.
pub type StepIndex = usize;

/// A tensor to be explained.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The step that computes it.
    pub step: StepIndex,
    /// Which tensor it is.
    pub site: Site,
    /// What was observed, without padding.
    pub values: Vec<f64>,
    /// How far a prediction may be from it.
    pub limit: TensorLimit,
    /// How far, where a narrower limit holds for these tokens.
    pub of_step: Option<StepLimit>,
}

impl Watched {
    /// How far `predicted`, without padding, is from it.
    pub fn residual(&self, predicted: &[f64]) -> Residual {
        let residual = Residual::of(predicted, &self.values, &self.limit);
        match &self.of_step {
            Some(limit) if residual.ratio.is_finite() => {
                Residual { ratio: limit.ratio(predicted, &self.values), ..residual }
            }
            _ => residual,
        }
    }
}

/// An implementation to try: variants in some steps, the right one in the others.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// Each variant and where it applies.
    pub parts: Vec<(Range<StepIndex>, Variant)>,
}

impl Candidate {
    /// One variant in `steps`.
    pub fn new(steps: Range<StepIndex>, variant: Variant) -> Self {
        Self { parts: vec![(steps, variant)] }
    }

    /// Its variant in a step, where that is not the right one.
    pub(crate) fn at(&self, step: StepIndex) -> Option<&Variant> {
        let part = self.parts.iter().find(|(steps, _)| steps.contains(&step));
        part.map(|(_, variant)| variant)
    }
}

/// The part of the model between two known points.
pub struct Segment {
    /// The steps in it.
    pub steps: Range<StepIndex>,
    /// What goes in, `[batch * seq, hidden_size]`.
    pub input: Vec<f64>,
    /// What was observed to go in, where it was: to the bit what the observed run went on from.
    pub seen: Option<Vec<f64>>,
    /// What is to be explained; not empty.
    pub watched: Vec<Watched>,
}
