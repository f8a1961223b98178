//! From verdicts to a diagnosis.

use std::collections::HashMap;
use std::time::Duration;

use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Limits, Mode, Reference, Scope, Trace, Verdicts};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::decoding::cached_steps;
use crate::findings::conclude;
use crate::fits::Fitted;
use crate::place::Place;
use crate::walk::Walk;

/// Where the numbers first go wrong, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The first tensor beyond its limit, in the order of computation.
    pub first_divergence: Option<Divergence>,
    /// The first intermediate tensor beyond its limit when the layer is given the right input.
    pub operation: Option<String>,
    /// What explains it, best first; empty when all passes, and when nothing explains it.
    pub causes: Vec<Cause>,
    /// When nothing explains it: what the error looks like.
    pub error_shape: Vec<String>,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
}

/// A place in the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The decoder layer; `None` outside the layers.
    pub layer: Option<usize>,
    /// The tensor's key in the reference.
    pub tensor: String,
}

/// A mistake that explains what was observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id in the catalogue.
    pub id: String,
    /// A sentence for people.
    pub explanation: String,
    /// The error without the mistake: norm of the difference over norm of the observed values.
    pub residual_before: Option<f64>,
    /// The error with it.
    pub residual_after: Option<f64>,
    /// The number in it, where one was looked for, and how exactly it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted: Option<Fitted>,
    /// What it is only consistent with, where that is too little to tell it from other mistakes: `1 of 20 ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The layers it was found in; empty outside the layers.
    pub layers: Vec<usize>,
}

/// What a diagnosis needs.
pub struct Blame<'a> {
    /// The checkpoint at hand, for explanations.
    pub checkpoint: &'a Checkpoint,
    /// What should have come out.
    pub reference: &'a Reference,
    /// What passes through the reference's layers, as far as it does not say so itself.
    pub derived: Option<&'a Trace>,
    /// What came out, of the reference's prompt.
    pub observed: &'a Trace,
    /// What was judged of it.
    pub verdicts: &'a Verdicts,
    /// How far apart values may be in `mode`.
    pub limits: &'a Limits,
    /// The layers to look at.
    pub scope: Scope,
    /// How `observed` was made: from its own inputs, or each layer from the reference's.
    pub mode: Mode,
    /// How long to look for causes.
    pub time: Duration,
    /// How many tokens of a row are the prompt's, where those behind it were read one after the other.
    pub prompt: Option<usize>,
    /// Told what is going on.
    pub progress: &'a mut dyn FnMut(&str),
}

impl Blame<'_> {
    /// The error over its calibrated limit of every tensor that was judged in the mode.
    pub(crate) fn ratios(&self) -> HashMap<String, f64> {
        let judged = self.verdicts.of(self.mode);
        judged.map(|tensor| (tensor.verdict.name.clone(), tensor.calibrated)).collect()
    }
}

/// Finds the first divergence and its causes.
///
/// # Errors
/// When a file or a weight cannot be read, or a tensor has the wrong shape.
pub fn diagnose(blame: Blame) -> Result<Diagnosis> {
    let layers = blame.scope.of;
    let place = Place::first(blame.verdicts, &blame.scope);
    let mut diagnosis =
        Diagnosis { first_divergence: place.divergence, operation: place.operation, ..Diagnosis::default() };
    let ratios = blame.ratios();
    let prompt_agrees = ratios.iter().all(|(key, ratio)| key == "step_logits" || *ratio <= 1.0);
    // Is the prompt known to be right, or only not known to be wrong?
    let (prompt_seen, steps_seen) = (blame.observed.has("logits")?, blame.observed.has("step_logits")?);
    let whole = blame.scope.is_whole() && blame.mode == Mode::Accumulated;
    let steps = if whole && prompt_agrees { cached_steps(&blame)? } else { None };
    let explained_by_rounding = prompt_agrees && steps.is_none();
    let findings = match steps {
        Some(steps) if steps.before.ratio <= 1.0 => {
            let note = "the observed steps are what this checkpoint gives; the reference's are not";
            diagnosis.notes.push(note.into());
            Vec::new()
        }
        Some(steps) => vec![steps],
        None => {
            let mut walk = Walk::new(blame, ratios)?;
            walk.run()?;
            diagnosis.error_shape = walk.error_shape;
            diagnosis.notes = walk.notes;
            walk.findings
        }
    };
    conclude(&findings, layers, &mut diagnosis);
    let first = diagnosis.first_divergence.as_ref().map(|first| first.tensor.as_str());
    if first == Some("generated_ids") && !steps_seen {
        let layers = format!(", `logits` and `layer_00_output` to `layer_{:02}_output`", layers - 1);
        let more = if prompt_seen { "" } else { &layers };
        let note =
            format!("ids alone do not tell one mistake from another: to know, record `step_logits`{more}");
        diagnosis.notes.push(note);
    }
    diagnosis.notes.extend(place.note);
    if place.beyond && explained_by_rounding && diagnosis.notes.is_empty() {
        let note = "rounding explains the error: it is within the calibrated limits, the thresholds asked for are narrower";
        diagnosis.notes.push(note.into());
    }
    Ok(diagnosis)
}
