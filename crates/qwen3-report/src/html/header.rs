//! The verdict, what was compared with what, and what it took.

use serde_json::Value;

use super::text::{chip, esc, megabytes};
use crate::verify::view::{Run, Status, number, text};

/// The page's title.
pub fn title(report: &Value) -> String {
    let model = text(report, "model_path").unwrap_or("Qwen3");
    let model = model.trim_end_matches(['/', '\\']);
    let model = model.rsplit(['/', '\\']).next().unwrap_or(model);
    format!(
        "{} \u{2013} {} \u{2013} verification",
        verdict(report).1,
        esc(model)
    )
}

/// The part above the sections.
pub fn header(report: &Value, runs: &[Run]) -> String {
    let (class, word) = verdict(report);
    let chips = runs.iter().map(|run| {
        let label = esc(&run.label());
        format!(
            "<li><span class=\"name\">{label}</span> {}</li>",
            chip(run.status())
        )
    });
    format!(
        "<header class=\"{class}\">\n<p class=\"verdict\"><span class=\"word\">{word}</span> <span>{}</span></p>\n\
         <ul class=\"chips\" aria-label=\"Runs\">{}</ul>\n{}</header>\n",
        sentence(report, runs),
        chips.collect::<String>(),
        facts(report),
    )
}

fn verdict(report: &Value) -> (&'static str, &'static str) {
    match report.get("overall_success").and_then(Value::as_bool) {
        Some(true) => ("passed", "Pass"),
        Some(false) => ("failed", "Fail"),
        None => ("unknown", "No verdict"),
    }
}

/// The verdict in one sentence, in HTML.
fn sentence(report: &Value, runs: &[Run]) -> String {
    if runs.is_empty() {
        return "Nothing was run.".into();
    }
    let ended = |status| runs.iter().filter(|run| run.status() == status).count();
    let passed = ended(Status::Pass);
    let mut parts = vec![match (passed, runs.len()) {
        (1, 1) => "The run matches the reference".into(),
        (passed, total) => format!("{passed} of {total} runs match the reference"),
    }];
    for (status, word) in [
        (Status::Fail, "failed"),
        (Status::Crash, "crashed"),
        (Status::Unavailable, "unavailable"),
        (Status::Unknown, "without a verdict"),
    ] {
        match ended(status) {
            0 => {}
            number => parts.push(format!("{number} {word}")),
        }
    }
    let mut sentence = parts.join(", ") + ".";
    if let (Some(total), Some(passed)) = (
        number(report, "total_layers_tested"),
        number(report, "layers_passed"),
    ) {
        sentence += &format!(" {passed} of {total} layer comparisons are within their limits.");
    }
    sentence
}

/// What was compared with what, and the memory it took; nothing when the report has none of it.
fn facts(report: &Value) -> String {
    let preset = text(report, "preset");
    let observed = text(report, "observed");
    let rows = [
        ("Model", text(report, "model_path"), true),
        ("Reference", text(report, "reference"), true),
        ("Observed", observed, true),
        ("Input", text(report, "test_input"), false),
        ("Preset", preset, false),
        ("Limits", text(report, "limits"), false),
        ("Burn", text(report, "burn"), false),
    ];
    let mut out = String::new();
    for (term, value, code) in rows {
        let Some(value) = value else { continue };
        let value = esc(value);
        out += &match code {
            true => format!("<dt>{term}</dt><dd><code>{value}</code></dd>\n"),
            false => format!("<dt>{term}</dt><dd>{value}</dd>\n"),
        };
    }
    let memory = memory(report.get("memory").unwrap_or(&Value::Null));
    match out.is_empty() && memory.is_empty() {
        true => out,
        false => format!("<div class=\"facts\">\n<dl>\n{out}</dl>\n{memory}</div>\n"),
    }
}

/// Bars that compare the process's peak with the whole model and with the parts that it held one at a time.
fn memory(memory: &Value) -> String {
    const BARS: [(&str, &str); 5] = [
        ("peak_rss_mb", "peak, resident"),
        ("model_mb", "whole model"),
        ("embedding_mb", "embedding"),
        ("layer_mb", "one layer"),
        ("head_mb", "head"),
    ];
    let bars = BARS
        .iter()
        .filter_map(|&(key, name)| Some((key, name, number(memory, key)?)));
    let largest = bars.clone().map(|bar| bar.2).fold(0.0, f64::max);
    if largest <= 0.0 {
        return String::new();
    }
    let rows = bars.map(|(key, name, mb)| {
        let class = if key == "peak_rss_mb" { " class=\"peak\"" } else { "" };
        let share = 100.0 * mb.max(0.0) / largest;
        format!(
            "<tr{class}><th scope=\"row\">{name}</th><td class=\"num\">{}</td><td class=\"bar\"><i style=\"width:{share:.1}%\"></i></td></tr>\n",
            megabytes(Some(mb))
        )
    });
    format!(
        "<table class=\"bars\"><caption>Memory</caption><tbody>\n{}</tbody></table>\n",
        rows.collect::<String>()
    )
}
