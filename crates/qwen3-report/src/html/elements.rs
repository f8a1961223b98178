//! The elements that decide: where a tensor is furthest from the reference, and what stands beside it.

use serde_json::Value;

use super::text::{
    NOTHING, chip, count, decimals, esc, finite_field, fixed, number_or_dash, ratio,
};
use crate::verify::view::{Run, Tensor, axes, list, number};

/// Tensors of a run that get a card with their neighbours.
const CARDS: usize = 4;
/// Tensors of a run that get a line below the cards.
const LINES: usize = 60;

/// The section's body; `None` when no run has a tensor.
pub fn section(runs: &[Run]) -> Option<String> {
    let mut out = String::new();
    for &run in runs {
        let failing = failing(run);
        if failing.is_empty() {
            continue;
        }
        let open = if out.is_empty() { " open" } else { "" };
        out += &format!(
            "<details{open}><summary><b>{}</b> {} <span class=\"quiet\">{} beyond the limit</span></summary>\n<div class=\"elements\">\n",
            esc(&run.label()),
            chip(run.status()),
            count(failing.len(), "tensor"),
        );
        for tensor in failing.iter().take(CARDS) {
            out += &card(*tensor);
        }
        out += "</div>\n";
        out += &rest(failing.get(CARDS..).unwrap_or(&[]));
        out += "</details>\n";
    }
    if !out.is_empty() {
        return Some(format!(
            "<p class=\"lead\">Tensors beyond their limits: first those that are wrong by themselves, in the order of computation.</p>\n{out}"
        ));
    }
    let worst = runs.iter().filter_map(|run| Some((run, run.worst()?)));
    let closest = worst.max_by(|a, b| {
        a.1.ratio()
            .unwrap_or(-1.0)
            .total_cmp(&b.1.ratio().unwrap_or(-1.0))
    });
    let (run, tensor) = closest?;
    Some(format!(
        "<p class=\"lead\">Nothing is beyond its limit. The tensor closest to it, on {}:</p>\n<div class=\"elements\">\n{}</div>\n",
        esc(&run.label()),
        card(tensor)
    ))
}

/// Every failing tensor: isolated ones first, since the layers before them have no part in their errors.
fn failing<'a>(run: Run<'a>) -> Vec<Tensor<'a>> {
    let mut failing: Vec<Tensor> = run.tensors().filter(|tensor| !tensor.pass()).collect();
    failing.sort_by_key(|tensor| match tensor.mode() {
        "isolated" => 0,
        "accumulated" => 1,
        "patched" => 2,
        _ => 3,
    });
    failing
}

fn card(tensor: Tensor) -> String {
    let json = tensor.0;
    let field = |key| number_or_dash(number(json, key));
    let beyond = match tensor.pass() {
        true => "within",
        false => "beyond",
    };
    format!(
        "<article class=\"card {beyond}\"><h4><code>{}</code> <span class=\"quiet\">{}</span> <span class=\"times\">{} \u{d7} limit</span></h4>\n\
         <p>Element <code>{}</code> of <code>{}</code> is <b class=\"num\">{}</b> instead of <b class=\"num\">{}</b>.</p>\n{}\
         <dl class=\"metrics\"><div><dt>largest error</dt><dd>{} <span class=\"quiet\">of {}</span></dd></div><div><dt>rms error</dt><dd>{} <span class=\"quiet\">of {}</span></dd></div>\
         <div><dt>relative</dt><dd>{}</dd></div><div><dt>cosine</dt><dd>{}</dd></div><div><dt>ULP</dt><dd>{}</dd></div><div><dt>noise floor</dt><dd>{}</dd></div></dl></article>\n",
        esc(&tensor.label()),
        esc(tensor.mode()),
        shown_ratio(tensor),
        axes(json, "max_abs_index").unwrap_or(NOTHING.into()),
        axes(json, "shape").unwrap_or(NOTHING.into()),
        value(json, "observed"),
        value(json, "expected"),
        neighbours(json),
        finite_field(json, "max_abs"),
        field("limit"),
        finite_field(json, "rms"),
        field("limit_rms"),
        finite_field(json, "relative"),
        number(json, "cosine").map_or(NOTHING.into(), |cosine| format!("{cosine:.7}")),
        field("max_ulp"),
        field("noise_floor"),
    )
}

/// The worst element's value, with the digits that its error changes.
fn value(tensor: &Value, key: &str) -> String {
    let decimals = decimals(number(tensor, "max_abs"));
    match tensor.get(key) {
        None => NOTHING.into(),
        Some(value) => fixed(value.as_f64().unwrap_or(f64::NAN), decimals),
    }
}

fn shown_ratio(tensor: Tensor) -> String {
    esc(&tensor.ratio().map_or("?".into(), ratio))
}

/// Expected and observed values beside the worst element, along one axis.
fn neighbours(tensor: &Value) -> String {
    let Some(around) = tensor.get("neighbours").filter(|around| around.is_object()) else {
        return String::new();
    };
    let (expected, observed) = (list(around, "expected"), list(around, "observed"));
    let width = expected.len().max(observed.len());
    if width == 0 {
        return String::new();
    }
    let axis = around.get("axis").and_then(Value::as_u64);
    let start = around.get("start").and_then(Value::as_u64).unwrap_or(0);
    let worst = axis.and_then(|axis| list(tensor, "max_abs_index").get(axis as usize)?.as_u64());
    let decimals = decimals(number(tensor, "max_abs"));
    let class = |at: usize| match worst.is_some() && worst == start.checked_add(at as u64) {
        true => " class=\"num worst\"",
        false => " class=\"num\"",
    };
    let axis = axis.map_or(NOTHING.into(), |axis| axis.to_string());
    let mut out = format!(
        "<div class=\"scroll\"><table class=\"near\"><thead><tr><th scope=\"col\">axis {axis}</th>"
    );
    for at in 0..width {
        out += &format!(
            "<th scope=\"col\"{}>{}</th>",
            class(at),
            start.saturating_add(at as u64)
        );
    }
    out += "</tr></thead><tbody>";
    for (name, values) in [("expected", expected), ("observed", observed)] {
        out += &format!("<tr><th scope=\"row\">{name}</th>");
        for at in 0..width {
            let value = values.get(at).map_or(NOTHING.into(), |value| {
                fixed(value.as_f64().unwrap_or(f64::NAN), decimals)
            });
            out += &format!("<td{}>{value}</td>", class(at));
        }
        out += "</tr>";
    }
    out += "<tr><th scope=\"row\">difference</th>";
    for at in 0..width {
        let value = |values: &[Value]| values.get(at).and_then(Value::as_f64);
        let difference = value(observed)
            .zip(value(expected))
            .map(|(observed, expected)| observed - expected);
        out += &format!("<td{}>{}</td>", class(at), number_or_dash(difference));
    }
    out + "</tr></tbody></table></div>\n"
}

/// The failing tensors that have no card, a line each.
fn rest(tensors: &[Tensor]) -> String {
    if tensors.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<details class=\"card\"><summary>{} more</summary>\n<div class=\"scroll\"><table><thead><tr><th scope=\"col\">tensor</th><th scope=\"col\">mode</th>\
         <th scope=\"col\" class=\"num\">\u{d7} limit</th><th scope=\"col\">element</th><th scope=\"col\" class=\"num\">expected</th><th scope=\"col\" class=\"num\">observed</th>\
         <th scope=\"col\" class=\"num\">error</th><th scope=\"col\" class=\"num\">limit</th></tr></thead>\n<tbody>\n",
        count(tensors.len(), "tensor")
    );
    for tensor in tensors.iter().take(LINES) {
        let json = tensor.0;
        out += &format!(
            "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td><td class=\"num\">{}</td><td><code>{}</code></td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\n",
            esc(&tensor.label()),
            esc(tensor.mode()),
            shown_ratio(*tensor),
            axes(json, "max_abs_index").unwrap_or(NOTHING.into()),
            value(json, "expected"),
            value(json, "observed"),
            finite_field(json, "max_abs"),
            number_or_dash(number(json, "limit")),
        );
    }
    out += "</tbody></table></div>\n";
    if tensors.len() > LINES {
        out += &format!(
            "<p class=\"quiet\">And {}: see the grids above or the JSON report.</p>\n",
            count(tensors.len() - LINES, "more tensor")
        );
    }
    out + "</details>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn isolated_failures_come_first_and_the_rest_is_capped() {
        let tensor = |mode: &str, name: String| json!({"mode": mode, "name": name, "pass": false, "ratio": 2.0});
        let mut tensors: Vec<Value> = (0..70)
            .map(|at| tensor("accumulated", format!("acc{at}")))
            .collect();
        tensors.push(tensor("isolated", "culprit".into()));
        let run = json!({"backend": "wgpu", "tensors": tensors});
        let html = section(&[Run(&run)]).unwrap();
        assert!(html.find("culprit").unwrap() < html.find("acc0").unwrap());
        assert!(html.contains("67 tensors more") && html.contains("And 7 more tensors"));
    }

    #[test]
    fn the_closest_is_shown_when_all_pass() {
        let run = json!({"backend": "flex", "tensors": [
            {"name": "far", "pass": true, "ratio": 0.1},
            {"name": "close", "pass": true, "ratio": 0.7},
        ]});
        let html = section(&[Run(&json!({})), Run(&run)]).unwrap();
        assert!(html.contains("close") && !html.contains("far<"));
        assert!(section(&[]).is_none());
    }

    #[test]
    fn the_worst_element_is_marked_among_its_neighbours() {
        let tensor = json!({"max_abs_index": [0, 11], "neighbours": {"axis": 1, "start": 10, "expected": [1.0, 2.0, 3.0], "observed": [1.0, null]}});
        let html = neighbours(&tensor);
        assert_eq!(html.matches("num worst").count(), 4);
        assert!(
            html.contains("<th scope=\"col\" class=\"num worst\">11</th>")
                && html.contains("not finite")
        );
        assert_eq!(neighbours(&json!({"neighbours": null})), "");
    }
}
