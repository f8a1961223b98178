//! The verification report as JUnit XML, in the form that Jenkins' `junit-10.xsd` describes and CI services read.

#[cfg(test)]
mod tests;
mod xml;

use serde_json::Value;

use self::xml::{attribute, case, content, outcome};
use super::view::{Run, Status, Tensor, Token, axes, list, number, text, texts, wrong};

/// The numbers that a suite and the whole are headed with.
#[derive(Clone, Copy, Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    ms: f64,
}

/// Renders a verification report (`schema` 1) as JUnit XML: a suite for each run, a case for each tensor and mode.
///
/// A tensor beyond its limit is a failure, a crash an error, an unavailable backend skipped; a run that fails
/// with every tensor within its limit has a case of its own. The diagnosis is the suite's `system-out`. Never
/// fails, has no clock in it, and characters that XML 1.0 does not allow become U+FFFD.
pub fn render(report: &Value) -> String {
    let mut total = Counts::default();
    let mut suites = String::new();
    for run in Run::all(report) {
        let (counts, suite) = suite(report, run);
        suites += &suite;
        total.tests += counts.tests;
        total.failures += counts.failures;
        total.errors += counts.errors;
        total.ms += counts.ms;
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"qwen3-verify\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">\n{suites}</testsuites>\n",
        total.tests,
        total.failures,
        total.errors,
        total.ms / 1000.0
    )
}

fn suite(report: &Value, run: Run) -> (Counts, String) {
    let name = suite_name(run);
    let mut counts = Counts::default();
    let mut cases = String::new();
    for tensor in run.tensors() {
        counts.tests += 1;
        let class = format!("{name}.{}", part(tensor.mode()));
        let failure = match tensor.pass() {
            true => String::new(),
            false => {
                counts.failures += 1;
                outcome("failure", "limit", &message(tensor), &details(tensor))
            }
        };
        cases += &case(&class, &tensor.label(), &failure);
    }
    let reason = text(run.0, "reason");
    let outcome = match run.status() {
        Status::Crash => {
            counts.errors += 1;
            Some(outcome(
                "error",
                "crash",
                reason.unwrap_or("the backend's process died"),
                "",
            ))
        }
        Status::Unavailable => {
            counts.skipped += 1;
            Some(outcome(
                "skipped",
                "unavailable",
                reason.unwrap_or("the backend is unavailable on this machine"),
                "",
            ))
        }
        Status::Unknown => {
            counts.errors += 1;
            Some(outcome(
                "error",
                "report",
                "the report has no verdict for this run",
                "",
            ))
        }
        // What no tensor shows: wrong tokens, or nothing compared.
        Status::Fail if counts.failures == 0 => {
            counts.failures += 1;
            let message = reason.map_or_else(|| tokens(run), str::to_owned);
            Some(outcome("failure", "run", &message, ""))
        }
        _ => None,
    };
    if let Some(outcome) = outcome {
        counts.tests += 1;
        cases += &case(&name, "run", &outcome);
    }
    // A time below zero or not finite is none.
    counts.ms = number(run.0, "elapsed_ms")
        .filter(|ms| ms.is_finite() && *ms > 0.0)
        .unwrap_or(0.0);
    let suite = format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n{}{cases}{}  </testsuite>\n",
        attribute(&name),
        counts.tests,
        counts.failures,
        counts.errors,
        counts.skipped,
        counts.ms / 1000.0,
        properties(report, run),
        system_out(run),
    );
    (counts, suite)
}

/// `qwen3-verify.wgpu.f32`, and the variant where there is one.
fn suite_name(run: Run) -> String {
    let mut name = format!("qwen3-verify.{}.{}", part(run.backend()), part(run.dtype()));
    if let Some(variant) = text(run.0, "variant") {
        name = format!("{name}.{}", part(variant));
    }
    name
}

/// A part of a dotted name: readers split class names at dots.
fn part(text: &str) -> String {
    text.replace('.', "_").replace(char::is_whitespace, "-")
}

/// The worst element, the limit and how far beyond it the tensor is, in one line.
fn message(tensor: Tensor) -> String {
    let json = tensor.0;
    format!(
        "{} x its limit: {} instead of {} at {}, max abs {} of {}",
        tensor
            .ratio()
            .filter(|ratio| ratio.is_finite())
            .map_or("not finite:".into(), |ratio| format!("{ratio:.3}")),
        shown(json, "observed"),
        shown(json, "expected"),
        axes(json, "max_abs_index").unwrap_or("?".into()),
        shown(json, "max_abs"),
        shown(json, "limit"),
    )
}

fn details(tensor: Tensor) -> String {
    let json = tensor.0;
    let mut out = format!("shape {}\n", axes(json, "shape").unwrap_or("?".into()));
    for (name, limit) in [
        ("max_abs", Some("limit")),
        ("rms", Some("limit_rms")),
        ("relative", None),
        ("cosine", None),
        ("max_ulp", None),
    ] {
        out += &format!("{name} {}", shown(json, name));
        if let Some(limit) = limit {
            out += &format!(", limit {}", shown(json, limit));
        }
        out.push('\n');
    }
    if let Some(around) = json.get("neighbours").filter(|around| around.is_object()) {
        let values = |key| {
            let values = list(around, key).iter().map(|value| {
                value
                    .as_f64()
                    .map_or("not finite".into(), |value| value.to_string())
            });
            values.collect::<Vec<_>>().join(", ")
        };
        let integer = |key| {
            around
                .get(key)
                .and_then(Value::as_u64)
                .map_or("?".into(), |value| value.to_string())
        };
        out += &format!(
            "along axis {} from {}:\n  expected {}\n  observed {}\n",
            integer("axis"),
            integer("start"),
            values("expected"),
            values("observed")
        );
    }
    out
}

/// A number; null is one that is not finite.
fn shown(value: &Value, key: &str) -> String {
    match value.get(key) {
        None => "?".into(),
        Some(value) => value
            .as_f64()
            .map_or("not finite".into(), |value| format!("{value:.5e}")),
    }
}

fn tokens(run: Run) -> String {
    match (wrong(&Token::all(run)), run.tensors().next()) {
        (0, None) => "nothing was compared".into(),
        (0, Some(_)) => "the run failed, though every tensor is within its limit".into(),
        (wrong, _) => format!(
            "{wrong} of {} tokens are wrong and no tie",
            Token::all(run).len()
        ),
    }
}

/// What a verdict depends on.
fn properties(report: &Value, run: Run) -> String {
    let mut out = String::from("    <properties>\n");
    let mut property = |name: &str, value: &str| {
        out += &format!(
            "      <property name=\"{name}\" value=\"{}\"/>\n",
            attribute(value)
        );
    };
    for key in [
        "burn",
        "model_path",
        "reference",
        "observed",
        "test_input",
        "preset",
        "limits",
    ] {
        if let Some(value) = text(report, key) {
            property(key, value);
        }
    }
    for key in ["backend", "dtype", "variant", "reason"] {
        if let Some(value) = text(run.0, key) {
            property(key, value);
        }
    }
    for key in ["fusion", "autotune"] {
        if let Some(on) = run
            .0
            .get("switches")
            .and_then(|switches| switches.get(key))
            .and_then(Value::as_bool)
        {
            property(key, if on { "on" } else { "off" });
        }
    }
    if let Some(mb) = number(run.0, "peak_rss_mb") {
        property("peak_rss_mb", &mb.to_string());
    }
    out + "    </properties>\n"
}

fn system_out(run: Run) -> String {
    let Some(diagnosis) = run
        .0
        .get("diagnosis")
        .filter(|diagnosis| diagnosis.is_object())
    else {
        return String::new();
    };
    let mut out = String::new();
    if let Some(tensor) = run.first_divergence() {
        out += &format!("first divergence: {tensor}\n");
    }
    if let Some(operation) = text(diagnosis, "operation") {
        out += &format!("operation: {operation}\n");
    }
    for cause in list(diagnosis, "causes") {
        out += &format!(
            "cause: {}: {} (residual {} -> {})\n",
            text(cause, "id").unwrap_or("?"),
            text(cause, "explanation").unwrap_or("?"),
            shown(cause, "residual_before"),
            shown(cause, "residual_after")
        );
    }
    for (key, name) in [("error_shape", "error"), ("notes", "note")] {
        for line in texts(diagnosis, key) {
            out += &format!("{name}: {line}\n");
        }
    }
    match out.is_empty() {
        true => out,
        false => format!("    <system-out>{}</system-out>\n", content(&out)),
    }
}
