//! A made-up report of somebody's activations: one run, in one mode.

use qwen3_blame::{Diagnosis, Divergence};
use qwen3_trace::{Mode, Precision};

use super::{report, tensor};
use crate::{Label, RunResult, VerifyReport};

/// The failing run of [`report`] as activations in a file that has outputs and generated ids only.
pub fn observed(layers: usize) -> VerifyReport {
    let mut report = report(layers);
    let failing = report.runs.swap_remove(2);
    let mut run = RunResult { switches: None, ..failing };
    run.label = Label::new("observed", Precision::F32);
    let outputs = |name: &str| name.ends_with("_output") || name == "logits";
    run.verdicts.tensors.retain(|tensor| tensor.mode == Mode::Accumulated && outputs(&tensor.verdict.name));
    run.verdicts.tensors.push(tensor(Mode::Accumulated, "step_logits", Some(3.1e4)));
    run.unread = vec!["layer_00.self_attn.attn_weights".into()];
    let first_divergence = Some(Divergence { layer: Some(3), tensor: "layer_03_output".into() });
    run.diagnosis = Diagnosis { first_divergence, operation: None, ..run.diagnosis };
    VerifyReport {
        diagnosis: run.diagnosis.clone(),
        observed: Some("mine.npz".into()),
        total_layers_tested: layers + 3,
        layers_passed: 4,
        layers_failed: layers - 1,
        runs: vec![run],
        pairwise: Vec::new(),
        consensus: None,
        ..report
    }
}
