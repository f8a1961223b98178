//! Reports as JUnit XML, in the form that CI services read.

#[cfg(test)]
mod tests;

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use qwen3_blame::Diagnosis;
use qwen3_trace::{LayerVerdict, Neighbours, Verdict};

use crate::measure::{error_over_limit, ratio, title};
use crate::{CaseResult, Label, ParityReport, RunResult, Status, VerifyReport};

/// A verification: a suite for each run, a case for each tensor and mode.
///
/// A tensor beyond its limit is a failure, a crash an error, an unavailable backend skipped; a run that fails
/// with every tensor within its limit has a case of its own. The diagnosis is the suite's `system-out`. Never
/// fails, has no clock in it, and characters that XML 1.0 does not allow become U+FFFD.
pub fn verify(report: &VerifyReport) -> String {
    render("qwen3-verify", report.runs.iter().map(|run| run_suite(report, run)))
}

/// A parity report: a suite for each backend and dtype, a case for each case; otherwise as [`verify`].
pub fn parity(report: &ParityReport) -> String {
    let place = |result: &CaseResult| suite("qwen3-parity", &result.label());
    let mut suites: Vec<(String, TestSuite, Duration)> = Vec::new();
    for result in &report.results {
        let name = place(result);
        let at = suites.iter().position(|suite| suite.0 == name).unwrap_or_else(|| {
            let mut suite = TestSuite::new(name.as_str());
            suite.add_property(Property::new("burn", harmless(&report.burn)));
            suites.push((name.clone(), suite, Duration::ZERO));
            suites.len() - 1
        });
        let time = milliseconds(result.elapsed_ms);
        let mut case = case(&format!("{name}.{}", result.kind), &result.case, case_status(result));
        case.set_time(time);
        suites[at].1.add_test_case(case);
        suites[at].2 += time;
    }
    let timed = suites.into_iter().map(|(_, mut suite, time)| {
        suite.set_time(time);
        suite
    });
    render("qwen3-parity", timed)
}

fn render(name: &str, suites: impl Iterator<Item = TestSuite>) -> String {
    let mut report = Report::new(name);
    report.add_test_suites(suites);
    report.set_time(report.test_suites.iter().filter_map(|suite| suite.time).sum());
    report.to_string().expect("writing to memory, and what is written is text")
}

/// `qwen3-verify.wgpu.f32`, and the variant where there is one.
fn suite(what: &str, label: &Label) -> String {
    let name = format!("{what}.{}.{}", part(&label.backend), label.dtype);
    label.variant.as_ref().map_or(name.clone(), |variant| format!("{name}.{}", part(variant)))
}

fn run_suite(report: &VerifyReport, run: &RunResult) -> TestSuite {
    let name = suite("qwen3-verify", &run.label);
    let mut suite = TestSuite::new(harmless(&name));
    for tensor in &run.verdicts.tensors {
        let status = if tensor.verdict.pass {
            TestCaseStatus::success()
        } else {
            let mut status =
                outcome(NonSuccessKind::Failure, "limit", &message(&tensor.verdict, ratio(tensor)));
            status.set_description(harmless(&details(tensor)));
            status
        };
        suite.add_test_case(case(&format!("{name}.{}", tensor.mode), &title(tensor), status));
    }
    let reason = |otherwise: &str| run.reason.clone().unwrap_or(otherwise.into());
    let status = match run.status {
        Status::Crash => Some(crashed(&reason("the backend's process died"))),
        Status::Unavailable => Some(skipped(&reason("the backend is unavailable on this machine"))),
        // What no tensor shows: wrong tokens, or nothing compared.
        Status::Fail if suite.failures == 0 => {
            Some(outcome(NonSuccessKind::Failure, "run", &reason(&unshown_failure(run))))
        }
        Status::Pass | Status::Fail => None,
    };
    suite.add_test_cases(status.map(|status| case(&name, "run", status)));
    suite.set_time(milliseconds(run.elapsed_ms));
    let properties = properties(report, run).into_iter();
    let property = |(name, value): (_, Option<String>)| Some(Property::new(name, harmless(&value?)));
    suite.add_properties(properties.filter_map(property));
    let out = said(&run.diagnosis);
    if !out.is_empty() {
        suite.set_system_out(harmless(&out));
    }
    suite
}

fn case(class: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(harmless(name), status);
    case.set_classname(harmless(class));
    case
}

fn outcome(kind: NonSuccessKind, ty: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty);
    say(&mut status, message);
    status
}

/// A reader makes one line of an attribute: a message of several is also the element's text.
fn say(status: &mut TestCaseStatus, message: &str) {
    status.set_message(harmless(message));
    if message.contains('\n') {
        status.set_description(harmless(message));
    }
}

fn crashed(reason: &str) -> TestCaseStatus {
    outcome(NonSuccessKind::Error, "crash", reason)
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_type("unavailable");
    say(&mut status, reason);
    status
}

fn case_status(result: &CaseResult) -> TestCaseStatus {
    let reason = result.reason.as_deref().unwrap_or_default();
    let failing = result.tensors.iter().find(|tensor| !tensor.pass);
    match (result.status, failing) {
        (Status::Pass, _) => TestCaseStatus::success(),
        (Status::Crash, _) => crashed(reason),
        (Status::Unavailable, _) => skipped(reason),
        (Status::Fail, None) => outcome(NonSuccessKind::Failure, "run", reason),
        (Status::Fail, Some(first)) => {
            let message = format!("{}: {}", first.name, message(first, error_over_limit(first)));
            outcome(NonSuccessKind::Failure, "limit", &message)
        }
    }
}

/// Whole milliseconds and less; a time below zero or not finite is none.
fn milliseconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}

/// A part of a dotted name: readers split class names at dots.
fn part(text: &str) -> String {
    text.replace('.', "_").replace(char::is_whitespace, "-")
}

/// What XML 1.0 does not allow at all becomes U+FFFD; a tab, which the writer would leave out, a space.
fn harmless(text: &str) -> String {
    let replace = |c| match c {
        '\t' => ' ',
        '\n' | '\r' => c,
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(replace).collect()
}

/// The worst element, the limit and how far beyond it the tensor is, in one line.
fn message(verdict: &Verdict, ratio: f64) -> String {
    let ratio = if ratio.is_finite() { format!("{ratio:.3}") } else { "not finite:".into() };
    format!(
        "{ratio} x its limit: {} instead of {} at {:?}, max abs {} of {}",
        shown(verdict.observed),
        shown(verdict.expected),
        verdict.max_abs_index,
        shown(verdict.max_abs),
        shown(Some(verdict.limit)),
    )
}

fn details(tensor: &LayerVerdict) -> String {
    let verdict = &tensor.verdict;
    let mut out = format!("shape {:?}\n", verdict.shape);
    for (name, value, limit) in [
        ("max_abs", verdict.max_abs, Some(verdict.limit)),
        ("rms", verdict.rms, Some(verdict.limit_rms)),
        ("relative", verdict.relative, None),
        ("cosine", verdict.cosine, None),
        ("max_ulp", verdict.max_ulp, None),
    ] {
        let limit = limit.map_or(String::new(), |limit| format!(", limit {}", shown(Some(limit))));
        out += &format!("{name} {}{limit}\n", shown(value));
    }
    if let Some(Neighbours { axis, start, expected, observed }) = &tensor.neighbours {
        let values = |values: &[Option<f64>]| {
            let shown = |value: &Option<f64>| value.map_or("not finite".into(), |value| value.to_string());
            values.iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        let (expected, observed) = (values(expected), values(observed));
        out += &format!("along axis {axis} from {start}:\n  expected {expected}\n  observed {observed}\n");
    }
    out
}

/// A number; none is one that is not finite.
fn shown(value: Option<f64>) -> String {
    let finite = value.filter(|value| value.is_finite());
    finite.map_or("not finite".into(), |value| format!("{value:.5e}"))
}

fn unshown_failure(run: &RunResult) -> String {
    let tokens = &run.verdicts.tokens;
    match tokens.iter().filter(|token| !token.passes()).count() {
        0 if run.verdicts.tensors.is_empty() => "nothing was compared".into(),
        0 => "the run failed, though every tensor is within its limit".into(),
        wrong => format!("{wrong} of {} tokens are wrong and no tie", tokens.len()),
    }
}

/// What a verdict depends on.
fn properties(report: &VerifyReport, run: &RunResult) -> [(&'static str, Option<String>); 14] {
    let on = |on: bool| (if on { "on" } else { "off" }).to_owned();
    [
        ("burn", Some(report.burn.clone())),
        ("model_path", Some(report.model_path.clone())),
        ("reference", report.reference.clone()),
        ("observed", report.observed.clone()),
        ("test_input", Some(report.test_input.clone())),
        ("preset", report.preset.map(|preset| preset.name().into())),
        ("limits", Some(report.limits.clone())),
        ("backend", Some(run.label.backend.clone())),
        ("dtype", Some(run.label.dtype.to_string())),
        ("variant", run.label.variant.clone()),
        ("reason", run.reason.clone()),
        ("fusion", run.switches.map(|switches| on(switches.fusion))),
        ("autotune", run.switches.map(|switches| on(switches.autotune))),
        ("peak_rss_mb", run.peak_rss_mb.map(|mb| mb.to_string())),
    ]
}

/// A diagnosis, a line for each thing that it says.
fn said(diagnosis: &Diagnosis) -> String {
    let mut lines = Vec::new();
    lines
        .extend(diagnosis.first_divergence.iter().map(|first| format!("first divergence: {}", first.tensor)));
    lines.extend(diagnosis.operation.iter().map(|operation| format!("operation: {operation}")));
    lines.extend(diagnosis.causes.iter().map(|cause| {
        let (before, after) = (shown(cause.residual_before), shown(cause.residual_after));
        if let Some(evidence) = &cause.evidence {
            return format!("consistent with: {}, by {evidence}: {}", cause.id, cause.explanation);
        }
        format!("cause: {}: {} (residual {before} -> {after})", cause.id, cause.explanation)
    }));
    lines.extend(diagnosis.error_shape.iter().map(|line| format!("error: {line}")));
    lines.extend(diagnosis.notes.iter().map(|line| format!("note: {line}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
