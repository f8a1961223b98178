//! A run of a verification and a case of parity: what is judged by its tensors and tokens.

use std::collections::BTreeMap;

use qwen3_blame::Divergence;
use qwen3_trace::names::layer_of;
use qwen3_trace::{LayerVerdict, Switches, TokenVerdict, Verdict};

use super::Change;
use crate::measure::{error_over_limit, ratio, title};
use crate::{CaseResult, RunResult, Status};

/// A run, or a case on a backend in a dtype.
pub struct Judged<'a> {
    /// The place, and for parity the case.
    pub name: String,
    /// The backend, dtype and variant.
    pub place: String,
    /// The case of a parity report.
    pub case: Option<&'a str>,
    /// How it ended.
    pub status: Status,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
    /// `fusion on, autotune off`; `none` where the backend has none.
    pub switches: String,
    /// Where it first leaves the reference.
    pub first: Option<&'a Divergence>,
    /// Its tensors, in the order of computation.
    pub tensors: Vec<Tensor<'a>>,
    /// Its generated tokens by row and step.
    pub tokens: BTreeMap<(usize, usize), &'a TokenVerdict>,
}

/// A tensor that was compared.
pub struct Tensor<'a> {
    /// Unique within its run unless the report has it twice: with the mode, and in patched mode the layer.
    pub name: String,
    /// The reference's name for it.
    pub tensor: &'a str,
    /// The error over its limit; infinite when it is not finite.
    pub ratio: f64,
    /// Is it within its limit?
    pub pass: bool,
}

impl Judged<'_> {
    /// A change of this run.
    pub fn change(&self, what: String) -> Change {
        Change { place: self.name.clone(), what }
    }
}

impl<'a> Tensor<'a> {
    fn new(name: String, verdict: &'a Verdict, ratio: f64) -> Self {
        Self { name, tensor: &verdict.name, ratio, pass: verdict.pass }
    }
}

impl<'a> From<&'a RunResult> for Judged<'a> {
    fn from(run: &'a RunResult) -> Self {
        let name = |tensor: &LayerVerdict| format!("{} {}", tensor.mode, title(tensor));
        let tensors = run.verdicts.tensors.iter();
        let tokens = run.verdicts.tokens.iter();
        Self {
            name: run.label.to_string(),
            place: run.label.to_string(),
            case: None,
            status: run.status,
            elapsed_ms: run.elapsed_ms,
            switches: switches(run.switches),
            first: run.diagnosis.first_divergence.as_ref(),
            tensors: tensors.map(|t| Tensor::new(name(t), &t.verdict, ratio(t))).collect(),
            tokens: tokens.map(|token| ((token.row, token.step), token)).collect(),
        }
    }
}

impl<'a> From<&'a CaseResult> for Judged<'a> {
    fn from(result: &'a CaseResult) -> Self {
        let place = result.label().to_string();
        let tensors = result.tensors.iter();
        Self {
            name: format!("{} on {place}", result.case),
            place,
            case: Some(&result.case),
            status: result.status,
            elapsed_ms: result.elapsed_ms,
            switches: switches(result.switches),
            first: None,
            tensors: tensors.map(|t| Tensor::new(t.name.clone(), t, error_over_limit(t))).collect(),
            tokens: BTreeMap::new(),
        }
    }
}

fn switches(switches: Option<Switches>) -> String {
    switches.map_or("none".into(), |switches| switches.to_string())
}

/// The layer, counted from 1; before all of them the embedding, behind them the last norm and the logits.
pub fn depth(place: &Divergence) -> usize {
    match place.layer.or_else(|| layer_of(&place.tensor)) {
        Some(layer) => layer.saturating_add(1),
        None if place.tensor.starts_with("embedding") => 0,
        None => usize::MAX,
    }
}

/// An error over its limit for a person.
pub fn shown(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => "not finite".into(),
        0.0 => "0".into(),
        ratio if (0.001..1000.0).contains(&ratio) => format!("{ratio:.3}"),
        ratio => format!("{ratio:.2e}"),
    }
}
