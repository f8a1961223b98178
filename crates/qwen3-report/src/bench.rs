//! What a benchmark measured, as its JSON has it.

mod accuracy;
mod check;
mod limits;
mod machine;
mod row;
mod standing;

use serde::{Deserialize, Serialize};

pub use self::accuracy::{Accuracy, GreedyIds};
pub use self::check::Impossible;
pub use self::limits::{DeviceLimit, Limits, Pages};
pub use self::machine::Machine;
pub use self::row::{Figures, PeerRow, Phase, Row, Sample, Unit, Workload};
pub use self::standing::{Lane, Standing};
use crate::{BURN_VERSION, Label, SCHEMA};

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// The form's version, 1.
    pub schema: u32,
    /// The Burn release.
    #[serde(default)]
    pub burn: String,
    /// What was run.
    pub model: ModelFacts,
    /// Where it was run.
    pub machine: Machine,
    /// What the machine could do at most, measured in the same run.
    pub limits: Limits,
    /// Ours, by backend, dtype, phase and size.
    pub rows: Vec<Row>,
    /// Other engines on the same weights and sizes.
    #[serde(default)]
    pub peers: Vec<PeerRow>,
    /// Ours over theirs.
    #[serde(default)]
    pub ratios: Vec<Ratio>,
    /// What was asked for and cannot be had, and why.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

/// The model that was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its folder or file, or `synthetic 0.6b`.
    pub name: String,
    /// How many weights it has, a tied head counted once.
    pub parameters: usize,
}

/// How many times as fast as a peer: above 1 where ours is faster, in every phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Ours.
    pub backend: String,
    /// How ours computed, when not in the usual way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
    /// The dtype of both.
    pub dtype: qwen3_trace::Precision,
    /// What both did.
    #[serde(flatten)]
    pub workload: Workload,
    /// Theirs.
    pub peer: String,
    /// Our tokens per second over theirs; where there are none, their seconds over ours.
    pub ratio: f64,
}

impl Ratio {
    /// What the runs of ours are called.
    pub fn label(&self) -> Label {
        Label { variant: self.variant.clone(), ..Label::new(&self.backend, self.dtype) }
    }
}

/// Something that was asked for and not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// The backend and dtype, or the peer: `flex bf16`, `llama.cpp f32`.
    pub who: String,
    /// What of it; all of it when left out.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<Workload>,
    /// Why.
    pub reason: String,
}

impl Default for BenchReport {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            burn: BURN_VERSION.into(),
            model: ModelFacts::default(),
            machine: Machine::default(),
            limits: Limits::default(),
            rows: Vec::new(),
            peers: Vec::new(),
            ratios: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

impl BenchReport {
    /// The report as JSON text.
    ///
    /// # Panics
    /// Never: every field has a form in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a form in JSON") + "\n"
    }

    /// The ratios of every row to each peer's row of the same dtype and workload.
    pub fn compare(&mut self) {
        let mut ratios = Vec::new();
        for row in &self.rows {
            let same = |peer: &&PeerRow| {
                peer.figures.dtype == row.figures.dtype && peer.figures.workload == row.figures.workload
            };
            for peer in self.peers.iter().filter(same) {
                let Some(ratio) = row.figures.times_as_fast_as(&peer.figures) else { continue };
                ratios.push(Ratio {
                    backend: row.backend.clone(),
                    variant: row.variant.clone(),
                    dtype: row.figures.dtype,
                    workload: row.figures.workload,
                    peer: peer.peer.clone(),
                    ratio,
                });
            }
        }
        self.ratios = ratios;
    }

    /// What the rows are called, each once, in order.
    pub fn labels(&self) -> Vec<Label> {
        let mut labels = Vec::new();
        for row in &self.rows {
            let label = row.label();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }
}
