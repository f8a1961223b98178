//! What explains a part of the model, and what is tried for it.

use std::ops::Range;
use std::sync::Arc;

use crate::fits::Fitted;
use crate::hypothesis::Hypothesis;
use crate::residual::Residual;
use crate::segment::{Candidate, StepIndex};
use crate::variant::Variant;

/// A hypothesis that explains a segment.
#[derive(Clone)]
pub struct Explanation {
    /// The catalogue's id.
    pub id: &'static str,
    /// What follows "matches to .. if".
    pub words: String,
    /// The whole sentence, where it is another.
    pub whole: Option<String>,
    /// What is left of the error.
    pub after: Residual,
    /// The steps it applies to, when not to the whole segment.
    pub steps: Option<Range<StepIndex>>,
    /// The change, for trying it further on.
    pub hypothesis: Option<Arc<Hypothesis>>,
    /// The number in it, where it was found.
    pub fitted: Option<Fitted>,
}

impl Explanation {
    /// One without a change to try again.
    pub fn plain(id: &'static str, words: String, after: Residual) -> Self {
        Self { id, words, whole: None, after, steps: None, hypothesis: None, fitted: None }
    }

    /// The layers it is about, of those of its segment.
    pub fn layers(&self, segment: &[usize]) -> Vec<usize> {
        let within = |layer: &&usize| self.steps.as_ref().is_none_or(|s| s.contains(layer));
        segment.iter().filter(within).copied().collect()
    }

    /// The sentence for people.
    pub fn sentence(&self, layers: &[usize], of_reference: bool) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let (place, matches) = match layers {
            [] => ("it".to_string(), "matches"),
            [one] => (format!("layer {one}"), "matches"),
            [first, .., last] => (format!("layers {first} to {last}"), "match"),
        };
        let of = if of_reference { "of the reference " } else { "" };
        let left = match self.after.relative {
            0.0 => "exactly".to_string(),
            left => format!("to {left:.0e}"),
        };
        let fits = self.fitted.map(|fitted| format!("; {fitted}")).unwrap_or_default();
        format!("{place} {of}{matches} {left} if {}{fits}", self.words)
    }
}

/// A trial: some hypotheses at once, in some steps.
pub struct Trial {
    /// The hypotheses.
    pub parts: Vec<Arc<Hypothesis>>,
    /// Where they apply.
    pub steps: Range<StepIndex>,
}

impl Trial {
    /// The implementation to try.
    pub fn candidate(&self, right: &Variant) -> Candidate {
        let mut variant = right.clone();
        for part in &self.parts {
            (part.change)(&mut variant);
        }
        Candidate::new(self.steps.clone(), variant)
    }
}
