//! What a verification found, as its JSON has it.

use qwen3_blame::Diagnosis;
use qwen3_config::Qwen3Config;
use qwen3_trace::consensus::{Consensus, Pair};
use qwen3_trace::{Backend, Precision, Preset, Tolerance, generated_ids};
use serde::{Deserialize, Serialize};

use crate::layer_results::{LayerResult, layers_of};
use crate::memory::{Memory, peak_rss_mb};
use crate::{BURN_VERSION, Label, RunResult, SCHEMA, Status, serde_forms};

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The form's version, 1.
    pub schema: u32,
    /// The Burn release.
    #[serde(default)]
    pub burn: String,
    /// The checkpoint's directory.
    #[serde(default)]
    pub model_path: String,
    /// The folder of the adapter that the model was run with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The reference's file.
    #[serde(default)]
    pub reference: Option<String>,
    /// The file of somebody else's activations.
    #[serde(default)]
    pub observed: Option<String>,
    /// The prompt.
    #[serde(default)]
    pub test_input: String,
    /// Fixed thresholds, where asked for.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// A tolerance for each element instead of limits, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
    /// Where the limits come from.
    #[serde(default)]
    pub limits: String,
    /// Did every run pass that could run?
    #[serde(default)]
    pub overall_success: bool,
    /// Entries of `layer_results`.
    #[serde(default)]
    pub total_layers_tested: usize,
    /// Those that pass.
    #[serde(default)]
    pub layers_passed: usize,
    /// Those that do not.
    #[serde(default)]
    pub layers_failed: usize,
    /// The layers of every run.
    #[serde(default)]
    pub layer_results: Vec<LayerResult>,
    /// That of the first run that fails.
    #[serde(default, deserialize_with = "serde_forms::null_as_default")]
    pub diagnosis: Diagnosis,
    /// Every run.
    pub runs: Vec<RunResult>,
    /// Every two runs.
    #[serde(default)]
    pub pairwise: Vec<Pair>,
    /// Which run is alone.
    #[serde(default)]
    pub consensus: Option<Consensus>,
    /// What was in memory.
    #[serde(default, deserialize_with = "serde_forms::null_as_default")]
    pub memory: Memory,
}

impl VerifyReport {
    /// One without runs, of weights in `dtype`.
    pub fn new(config: &Qwen3Config, dtype: Precision) -> Self {
        Self {
            schema: SCHEMA,
            burn: BURN_VERSION.into(),
            model_path: String::new(),
            adapter: None,
            reference: None,
            observed: None,
            test_input: String::new(),
            preset: None,
            tolerance: None,
            limits: String::new(),
            overall_success: false,
            total_layers_tested: 0,
            layers_passed: 0,
            layers_failed: 0,
            layer_results: Vec::new(),
            diagnosis: Diagnosis::default(),
            runs: Vec::new(),
            pairwise: Vec::new(),
            consensus: None,
            memory: Memory::of(config, dtype),
        }
    }

    /// Is judged by fixed thresholds, and not by calibrated limits?
    pub fn fixed(&self) -> bool {
        self.preset.is_some() || self.tolerance.is_some()
    }

    /// Adds up what the runs found.
    pub fn finish(&mut self, config: &Qwen3Config) {
        for run in &mut self.runs {
            run.verdicts.tensors.extend(generated_ids(&run.verdicts.tokens));
        }
        for run in &self.runs {
            self.layer_results.extend(layers_of(run, config));
        }
        let passed = self.layer_results.iter().filter(|layer| layer.pass_threshold).count();
        self.total_layers_tested = self.layer_results.len();
        self.layers_passed = passed;
        self.layers_failed = self.total_layers_tested - passed;
        let failed = self.runs.iter().any(|run| run.status.failed());
        self.overall_success = self.ran() && !failed && self.agree();
        let first = self.runs.iter().find(|run| run.status == Status::Fail);
        self.diagnosis = first.map(|run| run.diagnosis.clone()).unwrap_or_default();
        for run in self.runs.iter().filter(|run| run.status == Status::Pass) {
            let Some(variant) = &run.label.variant else {
                continue;
            };
            let usual = Label::new(&run.label.backend, run.label.dtype);
            let base = self.runs.iter().find(|base| base.label == usual && base.status.failed());
            self.diagnosis.notes.extend(base.map(|_| {
                format!(
                    "{usual} fails as built and passes {variant}: that switch is where the failure comes from"
                )
            }));
        }
        let peaks = self.runs.iter().map(|run| run.peak_rss_mb);
        let peaks = peaks.chain([peak_rss_mb()]).flatten();
        self.memory.peak_rss_mb = peaks.reduce(f64::max);
    }

    /// The report as JSON text.
    ///
    /// # Panics
    /// Never: every field has a form in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a form in JSON") + "\n"
    }

    /// Without a reference, differing from each other is what fails.
    fn agree(&self) -> bool {
        let differ = |consensus: &Consensus| !consensus.agree;
        self.reference.is_some() || !self.consensus.as_ref().is_some_and(differ)
    }

    /// Was anything compared? Without a reference, that takes two runs.
    fn ran(&self) -> bool {
        let runs = self.runs.iter().filter(|run| run.status.ran()).count();
        runs > usize::from(self.reference.is_none())
    }

    /// 0 when all passes; 1 when something does not; 3 when a backend in `named` is unavailable, or
    /// nothing could run.
    pub fn exit_code(&self, named: &[Backend]) -> u8 {
        if self.runs.iter().any(|run| run.status.failed()) || !self.agree() {
            return 1;
        }
        let missing = self.runs.iter().any(|run| {
            let is_named = named.iter().any(|backend| backend.name() == run.label.backend);
            run.status == Status::Unavailable && is_named
        });
        if missing || !self.ran() { 3 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(runs: Vec<RunResult>, reference: bool) -> VerifyReport {
        let config = Qwen3Config::tiny();
        let mut report = VerifyReport {
            reference: reference.then(|| "reference.npz".into()),
            runs,
            ..VerifyReport::new(&config, Precision::F32)
        };
        report.finish(&config);
        report
    }

    fn run(variant: Option<&str>, status: Status) -> RunResult {
        let label = Label { variant: variant.map(Into::into), ..Label::new("wgpu", Precision::F32) };
        RunResult { status, ..RunResult::new(label) }
    }

    #[test]
    fn the_switch_that_cures_is_named() {
        use Status::{Crash, Fail, Pass, Unavailable};
        for (base, fusion, autotune, named) in [
            (Fail, Pass, Fail, Some("without fusion")),
            (Crash, Fail, Pass, Some("without autotune")),
            (Fail, Fail, Fail, None),
            (Pass, Fail, Pass, None),
            (Unavailable, Pass, Pass, None),
        ] {
            let runs = vec![
                run(None, base),
                run(Some("without fusion"), fusion),
                run(Some("without autotune"), autotune),
            ];
            let report = report(runs, true);
            let notes = report.diagnosis.notes.join("; ");
            assert_eq!(notes.is_empty(), named.is_none(), "{notes}");
            assert!(notes.contains(named.unwrap_or_default()), "{notes}");
            let code = if base == Unavailable { 0 } else { 1 };
            assert_eq!(report.exit_code(&[]), code);
        }
    }

    #[test]
    fn nothing_compared_is_no_success() {
        let alone = report(vec![run(None, Status::Pass)], false);
        assert!(!alone.overall_success);
        assert_eq!(alone.exit_code(&[]), 3);
        let judged = report(vec![run(None, Status::Pass)], true);
        assert!(judged.overall_success);
        let missing = report(vec![run(None, Status::Unavailable)], true);
        assert_eq!((missing.overall_success, missing.exit_code(&[])), (false, 3));
        let both = vec![run(None, Status::Unavailable), run(Some("without fusion"), Status::Pass)];
        assert_eq!(report(both, true).exit_code(&[Backend::Wgpu]), 3);
    }
}
