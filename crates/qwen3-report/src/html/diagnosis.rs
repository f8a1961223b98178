//! Where it first goes wrong, in which operation, and why: best explanation first.

use serde_json::Value;

use super::text::{NOTHING, esc, number_or_dash};
use crate::verify::view::{Run, Status, list, number, text, texts};

/// The section's body: the report's diagnosis, then those of the runs that have another one.
pub fn section(report: &Value, runs: &[Run]) -> Option<String> {
    let overall = report.get("diagnosis").unwrap_or(&Value::Null);
    // Runs with the same diagnosis stand together, those with the report's own first.
    let mut found: Vec<(&Value, Vec<String>)> = Vec::new();
    if says_something(overall) {
        found.push((overall, Vec::new()));
    }
    let mut silent = Vec::new();
    for run in runs {
        let own = run.0.get("diagnosis").unwrap_or(&Value::Null);
        let label = esc(&run.label());
        if !says_something(own) {
            if run.status() == Status::Pass {
                silent.push(label);
            }
        } else if let Some((_, labels)) = found.iter_mut().find(|(diagnosis, _)| *diagnosis == own)
        {
            labels.push(label);
        } else {
            found.push((own, vec![label]));
        }
    }
    let mut out = String::new();
    if !says_something(overall) {
        out += &format!(
            "<div class=\"card\"><p>{}</p></div>\n",
            silence(report, runs)
        );
    }
    for (diagnosis, labels) in &found {
        out += &match *diagnosis == overall {
            true => format!(
                "<div class=\"card alarm\">\n{}</div>\n",
                body(diagnosis, labels)
            ),
            false => format!(
                "<details class=\"card\"><summary><b>{}</b> {}</summary>\n{}</details>\n",
                labels.join(", "),
                headline(diagnosis),
                body(diagnosis, &[])
            ),
        };
    }
    if !found.is_empty() && !silent.is_empty() {
        out += &format!(
            "<p class=\"quiet\">No divergence on {}.</p>\n",
            silent.join(", ")
        );
    }
    Some(out)
}

fn says_something(diagnosis: &Value) -> bool {
    first(diagnosis).is_some()
        || text(diagnosis, "operation").is_some()
        || ["causes", "error_shape", "notes"]
            .iter()
            .any(|key| !list(diagnosis, key).is_empty())
}

fn first(diagnosis: &Value) -> Option<&Value> {
    diagnosis
        .get("first_divergence")
        .filter(|first| first.is_object())
}

/// What to say when there is nothing to diagnose; a run that did not happen is no proof.
fn silence(report: &Value, runs: &[Run]) -> &'static str {
    let passed = report.get("overall_success").and_then(Value::as_bool) == Some(true);
    match passed && runs.iter().any(|run| run.status() == Status::Pass) {
        true => "No divergence: every tensor that was compared is within its limit.",
        false => "There is no diagnosis.",
    }
}

fn headline(diagnosis: &Value) -> String {
    let place = first(diagnosis).and_then(|first| text(first, "tensor"));
    place.map_or(String::new(), |tensor| {
        format!("first diverges at <code>{}</code>", esc(tensor))
    })
}

/// Everything a diagnosis says; `labels` are the runs it holds for, escaped.
fn body(diagnosis: &Value, labels: &[String]) -> String {
    let mut out = String::from("<dl class=\"where\">\n");
    if let Some(first) = first(diagnosis) {
        let tensor = text(first, "tensor").map_or(NOTHING.into(), esc);
        let layer = first.get("layer").and_then(Value::as_i64);
        let layer = layer.map_or(String::new(), |layer| {
            format!(" <span class=\"quiet\">layer {layer}</span>")
        });
        out +=
            &format!("<div><dt>First divergence</dt><dd><code>{tensor}</code>{layer}</dd></div>\n");
    }
    if let Some(operation) = text(diagnosis, "operation") {
        out += &format!(
            "<div><dt>Operation</dt><dd><code>{}</code></dd></div>\n",
            esc(operation)
        );
    }
    if !labels.is_empty() {
        out += &format!("<div><dt>On</dt><dd>{}</dd></div>\n", labels.join(", "));
    }
    out += "</dl>\n";
    out += &causes(list(diagnosis, "causes"));
    out += &lines(
        "What the error looks like",
        &texts(diagnosis, "error_shape"),
    );
    out += &lines("Notes", &texts(diagnosis, "notes"));
    out
}

/// The table of causes; the one that explains most of the residual first.
fn causes(causes: &[Value]) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let mut causes: Vec<(&Value, Option<f64>)> =
        causes.iter().map(|cause| (cause, left(cause))).collect();
    let worth = |left: Option<f64>| left.unwrap_or(f64::INFINITY);
    causes.sort_by(|a, b| worth(a.1).total_cmp(&worth(b.1)));
    let mut out = String::from(
        "<div class=\"scroll\"><table class=\"causes\"><caption>Likely causes, best first</caption>\n<thead><tr>\
         <th scope=\"col\">cause</th><th scope=\"col\">explanation</th><th scope=\"col\" class=\"num\">residual before</th>\
         <th scope=\"col\" class=\"num\">after</th><th scope=\"col\">explains</th><th scope=\"col\">layers</th></tr></thead>\n<tbody>\n",
    );
    for (cause, left) in causes {
        out += &format!(
            "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>{}<td>{}</td></tr>\n",
            text(cause, "id").map_or(NOTHING.into(), esc),
            text(cause, "explanation").map_or(NOTHING.into(), esc),
            number_or_dash(number(cause, "residual_before")),
            number_or_dash(number(cause, "residual_after")),
            explains(left),
            layers(cause),
        );
    }
    out + "</tbody></table></div>\n"
}

/// The share of the residual that the cause leaves unexplained.
fn left(cause: &Value) -> Option<f64> {
    let (before, after) = (
        number(cause, "residual_before")?,
        number(cause, "residual_after")?,
    );
    (before > 0.0).then(|| after / before)
}

/// A bar over eight decades: what a cause does not explain to the last digit, it does not explain.
fn explains(left: Option<f64>) -> String {
    let Some(left) = left else {
        return format!("<td>{NOTHING}</td>");
    };
    let decades = -left.max(1e-8).log10();
    let words = match left {
        left if left <= 0.0 => "all of it".into(),
        left if left < 0.01 => format!("all but 10<sup>\u{2212}{:.0}</sup>", -left.log10()),
        left if left < 1.0 => format!("{:.0} %", 100.0 * (1.0 - left)),
        _ => "none of it".into(),
    };
    format!(
        "<td class=\"bar\"><i style=\"width:{:.1}%\"></i><span>{words}</span></td>",
        (decades / 8.0).clamp(0.0, 1.0) * 50.0
    )
}

/// `3, 4, 9\u{2013}27`
fn layers(cause: &Value) -> String {
    let mut layers: Vec<i64> = list(cause, "layers")
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    layers.sort_unstable();
    layers.dedup();
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for layer in layers {
        match spans.last_mut() {
            Some(span) if span.1.checked_add(1) == Some(layer) => span.1 = layer,
            _ => spans.push((layer, layer)),
        }
    }
    let spans = spans.iter().map(|&(from, to)| match to - from {
        0 => from.to_string(),
        1 => format!("{from}, {to}"),
        _ => format!("{from}\u{2013}{to}"),
    });
    match spans.collect::<Vec<_>>().join(", ") {
        spans if spans.is_empty() => NOTHING.into(),
        spans => spans,
    }
}

fn lines(title: &str, lines: &[&str]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items = lines.iter().map(|line| format!("<li>{}</li>", esc(line)));
    format!("<h3>{title}</h3>\n<ul>{}</ul>\n", items.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_diagnoses_stand_together() {
        let (one, two) = (json!({"operation": "mlp"}), json!({"operation": "o_proj"}));
        let run = |backend: &str, diagnosis: &Value| json!({"backend": backend, "dtype": "f32", "status": "fail", "diagnosis": diagnosis});
        let report = json!({"diagnosis": one, "runs": [run("a", &one), run("b", &two), run("c", &two), run("d", &one)]});
        let html = section(&report, &Run::all(&report)).unwrap();
        assert!(html.contains("<dt>On</dt><dd>a f32, d f32</dd>"), "{html}");
        assert!(html.contains("<summary><b>b f32, c f32</b>"), "{html}");
    }

    #[test]
    fn a_run_that_did_not_happen_is_no_proof() {
        let silent = |status: &str| {
            let report = json!({"overall_success": true, "runs": [{"status": status}]});
            section(&report, &Run::all(&report)).unwrap()
        };
        assert!(silent("pass").contains("No divergence"));
        assert!(silent("unavailable").contains("There is no diagnosis"));
    }

    #[test]
    fn layers_are_shown_as_spans() {
        let shown = |value| layers(&json!({ "layers": value }));
        assert_eq!(
            shown(json!([4, 3, 9, 5, 5, 11, 12])),
            "3\u{2013}5, 9, 11, 12"
        );
        assert_eq!(shown(json!([])), NOTHING);
        assert_eq!(shown(json!(null)), NOTHING);
        assert_eq!(shown(json!([i64::MAX])), i64::MAX.to_string());
    }

    #[test]
    fn the_cause_that_leaves_least_comes_first() {
        let html = causes(&[
            json!({"id": "unknown"}),
            json!({"id": "half", "residual_before": 1.0, "residual_after": 0.5}),
            json!({"id": "nearly_all", "residual_before": 0.4, "residual_after": 3e-7}),
            json!({"id": "zero_before", "residual_before": 0.0, "residual_after": 0.0}),
        ]);
        let place = |id| html.find(id).unwrap();
        assert!(place("nearly_all") < place("half") && place("half") < place("unknown"));
        assert!(html.contains("all but 10<sup>\u{2212}6</sup>") && html.contains(">50 %<"));
    }
}
