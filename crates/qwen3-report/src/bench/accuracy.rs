//! How right what is fast is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::error_over_limit;
use crate::{CaseResult, Kind, Label, ParityReport, Status};

/// Do the ids of greedy decoding equal Transformers'?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GreedyIds {
    /// Every one of them.
    Equal,
    /// Not every one.
    Differ,
    /// No case of this run decodes.
    NotRun,
}

impl GreedyIds {
    /// `equal`, `differ`, `not run`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differ => "differ",
            Self::NotRun => "not run",
        }
    }
}

impl fmt::Display for GreedyIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What parity says of one backend in one dtype.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Cases that were run.
    pub cases: usize,
    /// Cases that failed or crashed.
    pub failed: usize,
    /// The largest error over its limit of any tensor; null when it is not finite.
    pub worst_over_limit: Option<f64>,
    /// Do generated ids equal Transformers'?
    pub greedy_ids: GreedyIds,
}

impl Accuracy {
    /// Of what a parity report has of runs called `label`; `None` when that is nothing.
    pub fn of(report: &ParityReport, label: &Label) -> Option<Self> {
        let here = |result: &&CaseResult| result.label() == *label && result.status != Status::Unavailable;
        let results: Vec<_> = report.results.iter().filter(here).collect();
        if results.is_empty() {
            return None;
        }
        let decodes = |result: &&&CaseResult| matches!(result.kind, Kind::Greedy | Kind::FullModel);
        let passed = |result: &CaseResult| result.status == Status::Pass;
        let decoded: Vec<_> = results.iter().filter(decodes).collect();
        let errors = results.iter().flat_map(|result| result.tensors.iter().map(error_over_limit));
        let worst = errors.fold(
            0.0,
            |worst: f64, error| {
                if error.is_finite() { worst.max(error) } else { f64::INFINITY }
            },
        );
        Some(Self {
            cases: results.len(),
            failed: results.iter().filter(|result| !passed(result)).count(),
            worst_over_limit: worst.is_finite().then_some(worst),
            greedy_ids: match decoded.iter().all(|result| passed(result)) {
                _ if decoded.is_empty() => GreedyIds::NotRun,
                true => GreedyIds::Equal,
                false => GreedyIds::Differ,
            },
        })
    }
}
