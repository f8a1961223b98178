//! A run of a verification, as its JSON has it.

use std::collections::BTreeMap;

use qwen3_blame::Diagnosis;
use qwen3_trace::{Mode, Switches, Taken, Verdicts, figure, ignored};
use serde::{Deserialize, Serialize};

use crate::label::OBSERVED;
use crate::{Label, Status, readings, serde_forms};

/// One backend, or somebody's activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// What it is called.
    #[serde(flatten)]
    pub label: Label,
    /// How it ended.
    pub status: Status,
    /// Why, when it crashed or is unavailable.
    #[serde(default)]
    pub reason: Option<String>,
    /// Fusion and autotune, where the backend has them.
    #[serde(default)]
    pub switches: Option<Switches>,
    /// Wall time in milliseconds.
    #[serde(default)]
    pub elapsed_ms: f64,
    /// The process's largest resident set in MiB.
    #[serde(default)]
    pub peak_rss_mb: Option<f64>,
    /// How long each part of the model took.
    #[serde(default)]
    pub timings: Vec<Timing>,
    /// Every tensor and every generated token that was judged.
    #[serde(flatten, deserialize_with = "serde_forms::verdicts")]
    pub verdicts: Verdicts,
    /// Tensors of the activations whose names are no keys, or whose values lie otherwise than their keys say, and what they
    /// were taken for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Taken>,
    /// Tensors of the activations that are known and compared with nothing, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, String>,
    /// Tensors of the activations that were not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// The keys of a reference that the names of some of them look like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meant: BTreeMap<String, String>,
    /// Where and why it first goes wrong.
    #[serde(default, deserialize_with = "serde_forms::null_as_default")]
    pub diagnosis: Diagnosis,
}

/// The wall time of one part of the model, in all modes together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// `embedding`, `layer_03` or `head`.
    pub part: String,
    /// Reading the weights and bringing them to the device, in milliseconds.
    pub load_ms: f64,
    /// Computing and reading back, in milliseconds; on wgpu and cuda compiling included.
    pub run_ms: f64,
}

impl RunResult {
    /// One that has not been judged.
    pub fn new(label: Label) -> Self {
        Self {
            label,
            status: Status::Pass,
            reason: None,
            switches: None,
            elapsed_ms: 0.0,
            peak_rss_mb: None,
            timings: Vec::new(),
            verdicts: Verdicts::default(),
            taken: Vec::new(),
            left: BTreeMap::new(),
            unread: Vec::new(),
            meant: BTreeMap::new(),
            diagnosis: Diagnosis::default(),
        }
    }

    /// How many tensors of activations were compared, which were ignored, and what others were taken for; nothing of our
    /// own runs.
    pub fn compared(&self) -> Vec<String> {
        if self.label.backend != OBSERVED {
            return Vec::new();
        }
        let compared = format!("compared {} tensors", self.verdicts.of(Mode::Accumulated).count());
        let ignored = ignored(&self.unread, &self.meant);
        let compared = ignored.map_or(compared.clone(), |ignored| format!("{compared}; {ignored}"));
        let lines = [compared].into_iter().chain(self.steps()).chain(readings::taken(&self.taken));
        lines.chain(readings::left(&self.left)).collect()
    }

    /// What is to be said of the tensors of cached steps.
    fn steps(&self) -> Option<String> {
        let steps = &self.verdicts.steps;
        let beyond = steps.iter().filter(|step| !step.pass).min_by_key(|step| step.step);
        let worst = steps.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
        let shown = beyond.unwrap_or(worst);
        let what = if beyond.is_some() { "first beyond its limit" } else { "nearest to its limit" };
        let (within, all) = (steps.iter().filter(|step| step.pass).count(), steps.len());
        Some(format!(
            "cached steps: {within} of {all} tensors are within their limits; {what}: {} ({})",
            shown.tensor,
            figure(shown.ratio)
        ))
    }

    /// One that did not run to its end, and why.
    pub fn stopped(label: Label, status: Status, reason: String) -> Self {
        Self { status, reason: Some(reason), ..Self::new(label) }
    }
}
