//! What a verification found, as its JSON has it.

use std::path::Path;

use qwen3_model::Qwen3Config;
use serde::Serialize;

use super::consensus::{Consensus, Pair};
use super::job::{Mode, Timing};
use super::judge::TensorReport;
use super::layer_results::{LayerResult, layers_of};
use super::limits::Preset;
use super::logits::TokenResult;
use super::memory::{Memory, peak_rss_mb};
use super::reference::Reference;
use crate::backend::{Backend, Switches};
use crate::blame::Diagnosis;
use crate::manifest::TestDType;
use crate::report::BURN_VERSION;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Everything is within its limit, or there was nothing to compare with.
    Pass,
    /// A tensor is beyond its limit or a token differs.
    Fail,
    /// The backend's process died.
    Crash,
    /// The backend, or the dtype on it, is not to be had on this machine.
    Unavailable,
}

/// One backend, or somebody's activations.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The backend's name, or `observed`.
    pub backend: String,
    /// The dtype.
    pub dtype: TestDType,
    /// Which build of the program, when it is not the usual one.
    pub variant: Option<String>,
    /// The verdict.
    pub status: RunStatus,
    /// Why, when it crashed or is unavailable.
    pub reason: Option<String>,
    /// Fusion and autotune, where the backend has them.
    pub switches: Option<Switches>,
    /// Wall time in milliseconds.
    pub elapsed_ms: f64,
    /// The process's largest resident set in MiB.
    pub peak_rss_mb: Option<f64>,
    /// How long each part of the model took.
    pub timings: Vec<Timing>,
    /// Every tensor compared, by mode and in the order of computation.
    pub tensors: Vec<TensorReport>,
    /// Every generated token.
    pub tokens: Vec<TokenResult>,
    /// Where and why it first goes wrong.
    pub diagnosis: Diagnosis,
}

impl Run {
    /// One that has not been judged.
    pub fn new(backend: &str, dtype: TestDType, variant: Option<String>) -> Self {
        Self {
            backend: backend.into(),
            dtype,
            variant,
            status: RunStatus::Pass,
            reason: None,
            switches: None,
            elapsed_ms: 0.0,
            peak_rss_mb: None,
            timings: Vec::new(),
            tensors: Vec::new(),
            tokens: Vec::new(),
            diagnosis: Diagnosis::default(),
        }
    }

    /// `wgpu f32 (without fusion)`.
    pub fn label(&self) -> String {
        let variant = self.variant.as_ref();
        let variant = variant.map_or(String::new(), |variant| format!(" ({variant})"));
        format!("{} {}{variant}", self.backend, self.dtype)
    }

    /// Notes why it did not run to its end.
    pub fn fail_to_run(&mut self, status: RunStatus, reason: String) {
        (self.status, self.reason) = (status, Some(reason));
    }

    /// Was anything computed?
    pub fn compared(&self) -> bool {
        matches!(self.status, RunStatus::Pass | RunStatus::Fail)
    }

    /// Is there anything to judge?
    pub fn compares_something(&self) -> bool {
        !self.tensors.is_empty() || !self.tokens.is_empty()
    }

    /// Sets the status from tensors and tokens.
    pub fn judge(&mut self) {
        let tensors = self.tensors.iter().all(|tensor| tensor.result.pass);
        self.status = match tensors && self.tokens.iter().all(TokenResult::passes) {
            true => RunStatus::Pass,
            false => RunStatus::Fail,
        };
    }

    /// Adds what only this run knows: where the judged tensors first fail, and in which operation. `preset`:
    /// they were judged by fixed thresholds.
    pub fn complete(&self, diagnosis: &mut Diagnosis, preset: bool) {
        let failing = |mode: Mode| {
            let of_mode = self.tensors.iter().filter(move |t| t.mode == mode);
            of_mode.filter(|t| !t.result.pass)
        };
        let first = |mode: Mode| failing(mode).next().map(|t| t.result.name.as_str());
        diagnosis.operation = failing(Mode::Isolated)
            .chain(failing(Mode::Accumulated))
            .map(|t| t.result.name.clone())
            .find(|name| name.contains('.'));
        let walked = diagnosis.first_divergence.is_some();
        if let Some(name) = first(Mode::Accumulated) {
            // Of the steps the walk knows more: whether an id differs before the logits do.
            if name != "step_logits" || !walked {
                diagnosis.diverges(name);
            }
        } else if let Some(name) = first(Mode::Isolated) {
            diagnosis.diverges(name);
            if self.tensors.iter().any(|t| t.mode == Mode::Accumulated) {
                diagnosis.notes.push(format!(
                    "with the reference's input, {name} is beyond its limit, though the whole run is within"
                ));
            }
        } else if let Some(token) = self.tokens.iter().find(|token| !token.passes()) {
            if !walked {
                diagnosis.diverges("generated_ids");
                diagnosis.notes.push(format!(
                    "all activations of the prompt agree, but generated token {} of row {} is {} instead of {}: \
                     the cached steps differ",
                    token.step, token.row, token.observed, token.expected
                ));
            }
        } else if let Some(last) = failing(Mode::Patched).next_back() {
            diagnosis.diverges("logits");
            let injected = |layer: Option<usize>| layer.map_or(String::new(), |l| l.to_string());
            diagnosis.notes.push(format!(
                "with the reference injected behind layer {} the logits are wrong all the same: an error enters \
                 behind it, and behind no later layer",
                injected(last.layer)
            ));
        }
        let beyond = self.tensors.iter().any(|t| !t.result.pass);
        if preset && beyond && !walked && diagnosis.notes.is_empty() {
            diagnosis.notes.push(
                "rounding explains the error: it is within the calibrated limits, the preset asks for more"
                    .into(),
            );
        }
    }
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    schema: u32,
    burn: &'static str,
    /// The checkpoint's directory.
    pub model_path: String,
    /// The reference's file.
    pub reference: Option<String>,
    /// The file of somebody else's activations.
    pub observed: Option<String>,
    /// The prompt.
    pub test_input: String,
    /// Fixed thresholds, where asked for.
    pub preset: Option<&'static str>,
    /// Where the limits come from.
    pub limits: String,
    /// Did every run pass that could run?
    pub overall_success: bool,
    /// Entries of `layer_results`.
    pub total_layers_tested: usize,
    /// Those that pass.
    pub layers_passed: usize,
    /// Those that do not.
    pub layers_failed: usize,
    /// The layers of every run.
    pub layer_results: Vec<LayerResult>,
    /// That of the first run that fails.
    pub diagnosis: Diagnosis,
    /// Every run.
    pub runs: Vec<Run>,
    /// Every two runs.
    pub pairwise: Vec<Pair>,
    /// Which run is alone.
    pub consensus: Option<Consensus>,
    /// What was in memory.
    pub memory: Memory,
}

impl VerifyReport {
    /// One without runs.
    pub fn new(
        model: &Path,
        reference_file: Option<&Path>,
        observed: Option<&Path>,
        reference: &Reference,
        preset: Option<Preset>,
        limits: String,
        memory: Memory,
    ) -> Self {
        let limits = match (preset, reference_file) {
            (Some(preset), _) => format!("preset {}", preset.name()),
            (None, Some(_)) => limits,
            (None, None) => {
                "none: there is no reference, the backends are compared with each other".into()
            }
        };
        Self {
            schema: 1,
            burn: BURN_VERSION,
            model_path: model.display().to_string(),
            reference: reference_file.map(|file| file.display().to_string()),
            observed: observed.map(|file| file.display().to_string()),
            test_input: reference.test_input.clone(),
            preset: preset.map(Preset::name),
            limits,
            overall_success: false,
            total_layers_tested: 0,
            layers_passed: 0,
            layers_failed: 0,
            layer_results: Vec::new(),
            diagnosis: Diagnosis::default(),
            runs: Vec::new(),
            pairwise: Vec::new(),
            consensus: None,
            memory,
        }
    }

    /// Adds up what the runs found.
    pub fn finish(&mut self, config: &Qwen3Config) {
        for run in &self.runs {
            self.layer_results.extend(layers_of(run, config));
        }
        let passed = self
            .layer_results
            .iter()
            .filter(|layer| layer.pass_threshold)
            .count();
        self.total_layers_tested = self.layer_results.len();
        self.layers_passed = passed;
        self.layers_failed = self.total_layers_tested - passed;
        let failed = |run: &&Run| matches!(run.status, RunStatus::Fail | RunStatus::Crash);
        self.overall_success =
            self.ran() && !self.runs.iter().any(|run| failed(&run)) && self.agree();
        let first = self.runs.iter().find(|run| run.status == RunStatus::Fail);
        self.diagnosis = first.map(|run| run.diagnosis.clone()).unwrap_or_default();
        for run in &self.runs {
            let base = self.runs.iter().find(|other| {
                other.backend == run.backend && other.variant.is_none() && run.variant.is_some()
            });
            if let (Some(base), Some(variant)) = (base, &run.variant)
                && failed(&base)
                && run.status == RunStatus::Pass
            {
                self.diagnosis.notes.push(format!(
                    "{} fails as built and passes {variant}: that switch is where the failure comes from",
                    base.label()
                ));
            }
        }
        let peaks = self.runs.iter().map(|run| run.peak_rss_mb);
        let peaks = peaks.chain([peak_rss_mb()]).flatten();
        self.memory.peak_rss_mb = peaks.reduce(f64::max);
    }

    /// Without a reference, differing from each other is what fails.
    fn agree(&self) -> bool {
        let differ = |consensus: &Consensus| !consensus.agree;
        self.reference.is_some() || !self.consensus.as_ref().is_some_and(differ)
    }

    /// Was anything compared? Without a reference, that takes two runs.
    fn ran(&self) -> bool {
        let runs = self.runs.iter().filter(|run| run.compared()).count();
        runs > usize::from(self.reference.is_none())
    }

    /// 0 when all passes; 1 when something does not; 3 when a backend in `named` is unavailable, or
    /// nothing could run.
    pub fn exit_code(&self, named: &[Backend]) -> u8 {
        let failed = |run: &Run| matches!(run.status, RunStatus::Fail | RunStatus::Crash);
        if self.runs.iter().any(failed) || !self.agree() {
            return 1;
        }
        let missing = self.runs.iter().any(|run| {
            run.status == RunStatus::Unavailable
                && named.iter().any(|backend| backend.name() == run.backend)
        });
        if missing || !self.ran() { 3 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn report(runs: Vec<Run>, reference: bool) -> VerifyReport {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let checkpoint =
            qwen3_import::Checkpoint::open(root.join("checkpoints/gqa-sharded")).unwrap();
        let config = checkpoint.config();
        let file = root.join("gqa-sharded/prompt1/reference.npz");
        let opened = Reference::open(&file, config, true).unwrap();
        let memory = Memory::of(config, TestDType::F32);
        let named = reference.then_some(file.as_path());
        let mut report = VerifyReport::new(
            Path::new("m"),
            named,
            None,
            &opened,
            None,
            String::new(),
            memory,
        );
        report.runs = runs;
        report.finish(config);
        report
    }

    fn run(variant: Option<&str>, status: RunStatus) -> Run {
        let mut run = Run::new("wgpu", TestDType::F32, variant.map(Into::into));
        run.status = status;
        run
    }

    #[test]
    fn the_switch_that_cures_is_named() {
        use RunStatus::{Crash, Fail, Pass, Unavailable};
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
        let alone = report(vec![run(None, RunStatus::Pass)], false);
        assert!(!alone.overall_success);
        assert_eq!(alone.exit_code(&[]), 3);
        let judged = report(vec![run(None, RunStatus::Pass)], true);
        assert!(judged.overall_success);
        let missing = report(vec![run(None, RunStatus::Unavailable)], true);
        assert_eq!(
            (missing.overall_success, missing.exit_code(&[])),
            (false, 3)
        );
        let both = vec![
            run(None, RunStatus::Unavailable),
            run(Some("without fusion"), RunStatus::Pass),
        ];
        assert_eq!(report(both, true).exit_code(&[Backend::Wgpu]), 3);
    }
}
