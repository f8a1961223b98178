//! Where it first goes wrong, in which operation, and why: best explanation first.

mod causes;

use maud::{Markup, html};
use qwen3_blame::Diagnosis;

use self::causes::causes;
use crate::{Label, Status, VerifyReport};

/// The section's body: the report's diagnosis, then those of the runs that have another one.
pub fn section(report: &VerifyReport) -> Markup {
    let silent = Diagnosis::default();
    let overall = &report.diagnosis;
    // Runs with the same diagnosis stand together, those with the report's own first.
    let mut found: Vec<(&Diagnosis, Vec<&Label>)> = vec![(overall, Vec::new())];
    found.retain(|_| *overall != silent);
    let mut fine = Vec::new();
    for run in &report.runs {
        let known = found.iter_mut().find(|(diagnosis, _)| **diagnosis == run.diagnosis);
        if run.diagnosis == silent {
            fine.extend((run.status == Status::Pass).then_some(&run.label));
        } else if let Some((_, labels)) = known {
            labels.push(&run.label);
        } else {
            found.push((&run.diagnosis, vec![&run.label]));
        }
    }
    let crashed = report.runs.iter().filter(|run| run.status == Status::Crash);
    html! {
        @for run in crashed {
            div."card alarm" { b { (run.label) } " crashed." p.reason { (run.reason.as_deref().unwrap_or_default()) } }
        }
        @if *overall == silent { (silence(report)) }
        @for (diagnosis, labels) in &found {
            @if *diagnosis == overall {
                div."card alarm" { (body(diagnosis, labels)) }
            } @else {
                details.card {
                    summary {
                        b { (list(labels)) } " "
                        @if let Some(first) = &diagnosis.first_divergence {
                            "first diverges at " code { (first.tensor) }
                        }
                    }
                    (body(diagnosis, &[]))
                }
            }
        }
        @if !found.is_empty() && !fine.is_empty() { p.quiet { "No divergence on " (list(&fine)) "." } }
    }
}

/// What to say when there is nothing to diagnose; a run that did not happen is no proof.
fn silence(report: &VerifyReport) -> Markup {
    let passed = report.runs.iter().any(|run| run.status == Status::Pass);
    let differ = report.consensus.as_ref().filter(|consensus| !consensus.agree);
    html! {
        @if report.overall_success && passed {
            div.card { p { "No divergence: every tensor that was compared is within its limit." } }
        } @else if let Some(consensus) = differ {
            div."card alarm" { p { (consensus.explanation) } }
        } @else {
            div.card { p { "There is no diagnosis." } }
        }
    }
}

fn list(labels: &[&Label]) -> String {
    labels.iter().map(|label| label.to_string()).collect::<Vec<_>>().join(", ")
}

/// Everything a diagnosis says; `labels` are the runs it holds for.
fn body(diagnosis: &Diagnosis, labels: &[&Label]) -> Markup {
    let tensor = diagnosis.first_divergence.as_ref().map(|first| &first.tensor);
    // Inside a layer the tensor names the operation.
    let operation = diagnosis.operation.as_ref().filter(|operation| Some(*operation) != tensor);
    html! {
        dl.where {
            @if let Some(first) = &diagnosis.first_divergence {
                div {
                    dt { "First divergence" }
                    dd {
                        code { (first.tensor) }
                        @if let Some(layer) = first.layer { " " span.quiet { "layer " (layer) } }
                    }
                }
            }
            @if let Some(operation) = operation {
                div { dt { "Operation" } dd { code { (operation) } } }
            }
            @if !labels.is_empty() { div { dt { "On" } dd { (list(labels)) } } }
        }
        (causes(&diagnosis.causes))
        @if diagnosis.first_divergence.is_some() && diagnosis.causes.is_empty() { p { "No known mistake explains it." } }
        (lines("What the error looks like", &diagnosis.error_shape))
        (lines("Notes", &diagnosis.notes))
    }
}

fn lines(title: &str, lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { (title) }
            ul { @for line in lines { li { (line) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn equal_diagnoses_stand_together() {
        let at = |operation: &str| Diagnosis { operation: Some(operation.into()), ..Diagnosis::default() };
        let run = |backend, operation| crate::RunResult {
            diagnosis: at(operation),
            ..sample::run(backend, Status::Fail, Vec::new())
        };
        let runs = vec![run("a", "mlp"), run("b", "o_proj"), run("c", "o_proj"), run("d", "mlp")];
        let report = VerifyReport { diagnosis: at("mlp"), ..sample::report_of(runs) };
        let html = section(&report).into_string();
        assert!(html.contains("<dt>On</dt><dd>a f32, d f32</dd>"), "{html}");
        assert!(html.contains("<summary><b>b f32, c f32</b>"), "{html}");
    }

    #[test]
    fn a_run_that_did_not_happen_is_no_proof() {
        let silent = |status| {
            let report = VerifyReport {
                overall_success: true,
                ..sample::report_of(vec![sample::run("flex", status, Vec::new())])
            };
            section(&report).into_string()
        };
        assert!(silent(Status::Pass).contains("No divergence"));
        assert!(silent(Status::Unavailable).contains("There is no diagnosis"));
    }

    #[test]
    fn what_has_no_cause_is_said_to_have_none() {
        let first_divergence = Some(qwen3_blame::Divergence { layer: None, tensor: "logits".into() });
        let html = body(&Diagnosis { first_divergence, ..Diagnosis::default() }, &[]).into_string();
        assert!(html.contains("No known mistake explains it.") && !html.contains("Likely"), "{html}");
    }

    #[test]
    fn a_crash_and_runs_that_differ_are_told() {
        let crash = crate::RunResult {
            reason: Some("signal <11>".into()),
            ..sample::run("wgpu", Status::Crash, Vec::new())
        };
        let html = section(&sample::report_of(vec![crash])).into_string();
        assert!(html.contains("<b>wgpu f32</b> crashed.") && html.contains("signal &lt;11&gt;"), "{html}");
        let consensus = qwen3_trace::consensus::Consensus {
            agree: false,
            outlier: None,
            explanation: "they differ".into(),
        };
        let report = VerifyReport { consensus: Some(consensus), ..sample::report_of(Vec::new()) };
        assert!(section(&report).into_string().contains("they differ"));
    }
}
