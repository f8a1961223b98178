//! Every backend against every other: which one is alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text::{NOTHING, esc, number_or_dash};
use crate::verify::view::{list, number, text};

/// The section's body; `None` when no two runs were compared and nothing is said of them.
pub fn section(report: &Value) -> Option<String> {
    let pairs = list(report, "pairwise");
    let consensus = report
        .get("consensus")
        .filter(|consensus| consensus.is_object());
    if pairs.is_empty() && consensus.is_none() {
        return None;
    }
    let outlier = consensus.and_then(|consensus| text(consensus, "outlier"));
    let mut out = String::new();
    if let Some(consensus) = consensus {
        let verdict = match outlier {
            Some(outlier) => format!("<b>{} stands apart.</b> ", esc(outlier)),
            None => String::new(),
        };
        let explanation = text(consensus, "explanation").map_or(String::new(), esc);
        let class = if outlier.is_some() { " alarm" } else { "" };
        out += &format!("<div class=\"card{class}\"><p>{verdict}{explanation}</p></div>\n");
    }
    // The order in which the report first has them, so that the page's order is the report's.
    let mut tensors: Vec<&str> = Vec::new();
    for pair in pairs {
        let tensor = text(pair, "tensor").unwrap_or("?");
        if !tensors.contains(&tensor) {
            tensors.push(tensor);
        }
    }
    out += "<div class=\"matrices\">\n";
    for tensor in tensors {
        let of_tensor = pairs
            .iter()
            .filter(|pair| text(pair, "tensor").unwrap_or("?") == tensor);
        out += &matrix(tensor, &of_tensor.collect::<Vec<_>>(), outlier);
    }
    Some(out + "</div>\n")
}

fn matrix(tensor: &str, pairs: &[&Value], outlier: Option<&str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), &Value> = BTreeMap::new();
    for pair in pairs {
        let (a, b) = (
            text(pair, "a").unwrap_or("?"),
            text(pair, "b").unwrap_or("?"),
        );
        for name in [a, b] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        cells.insert((a, b), pair);
        cells.entry((b, a)).or_insert(pair);
    }
    let largest = pairs
        .iter()
        .filter_map(|pair| number(pair, "relative"))
        .fold(0.0, f64::max);
    let mark = |name: &str| match outlier == Some(name) {
        true => " class=\"outlier\"",
        false => "",
    };
    let mut out = format!(
        "<figure class=\"card\"><div class=\"scroll\"><table class=\"pairs\"><caption><code>{}</code>: relative difference</caption><thead><tr><td></td>",
        esc(tensor)
    );
    for name in &names {
        out += &format!("<th scope=\"col\"{}>{}</th>", mark(name), esc(name));
    }
    out += "</tr></thead><tbody>\n";
    for row in &names {
        out += &format!("<tr><th scope=\"row\"{}>{}</th>", mark(row), esc(row));
        for column in &names {
            out += &match cells.get(&(*row, *column)) {
                _ if row == column => format!("<td class=\"self\">{NOTHING}</td>"),
                None => "<td></td>".into(),
                Some(pair) => cell(pair, largest),
            };
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div></figure>\n"
}

/// The darker, the closer to the largest difference of the matrix, decade by decade.
fn cell(pair: &Value, largest: f64) -> String {
    let relative = number(pair, "relative");
    let class = match relative {
        None => "p0",
        Some(relative) if relative <= 0.0 || largest <= 0.0 => "p0",
        Some(relative) => match (largest / relative).log10() {
            below if below < 0.5 => "p4",
            below if below < 1.0 => "p3",
            below if below < 2.0 => "p2",
            _ => "p1",
        },
    };
    format!(
        "<td class=\"num {class}\" title=\"largest difference {}\">{}</td>",
        number_or_dash(number(pair, "max_abs")),
        match pair.get("relative") {
            Some(Value::Null) => "not finite".into(),
            _ => number_or_dash(relative),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_matrix_is_symmetric_and_names_the_outlier() {
        let report = json!({
            "pairwise": [
                {"a": "flex f32", "b": "tch f32", "tensor": "logits", "max_abs": 1e-6, "relative": 1e-7},
                {"a": "flex f32", "b": "wgpu f32", "tensor": "logits", "max_abs": 1.0, "relative": 0.5},
                {"a": "flex f32", "b": "tch f32", "tensor": "final_norm_output", "relative": null},
            ],
            "consensus": {"outlier": "wgpu f32", "explanation": "the others agree"},
        });
        let html = section(&report).unwrap();
        assert_eq!(html.matches("1.00e-7").count(), 2);
        assert_eq!(html.matches("class=\"outlier\"").count(), 2);
        assert_eq!(html.matches("<table").count(), 2);
        assert!(html.contains("wgpu f32 stands apart") && html.contains("not finite"));
    }

    #[test]
    fn without_pairs_there_is_no_section() {
        assert!(section(&json!({"pairwise": [], "consensus": null})).is_none());
        assert!(section(&json!({})).is_none());
        assert!(
            section(&json!({"consensus": {"outlier": null, "explanation": "one run"}})).is_some()
        );
    }
}
