//! The generated tokens: expected and observed ids beside the margin that the reference chose them by.

use super::text::{NOTHING, chip, count, esc, number_or_dash};
use crate::verify::view::{Run, Token, number, wrong};

/// Tokens of a run that are shown; a page is no place for thousands.
const SHOWN: usize = 200;

/// The section's body; `None` when no run generated any.
pub fn section(runs: &[Run]) -> Option<String> {
    let with_tokens: Vec<(Run, Vec<Token>)> = runs
        .iter()
        .map(|&run| (run, Token::all(run)))
        .filter(|(_, tokens)| !tokens.is_empty())
        .collect();
    if with_tokens.is_empty() {
        return None;
    }
    let mut out = String::from(
        "<p class=\"lead\">The margin is by how much the reference preferred its first choice over its second: \
         an id that differs where the margin is next to nothing is a tie, not an error. Regret is what the other choice costs.</p>\n",
    );
    // A wrong token is what one looks for; when there is none, one table shows what they all look like.
    let first_wrong = with_tokens
        .iter()
        .position(|(_, tokens)| wrong(tokens) > 0)
        .unwrap_or(0);
    for (index, (run, tokens)) in with_tokens.iter().enumerate() {
        let open = if index == first_wrong { " open" } else { "" };
        out += &format!(
            "<details class=\"card\"{open}><summary><b>{}</b> {} <span class=\"quiet\">{}</span></summary>\n{}{}</details>\n",
            esc(&run.label()),
            chip(run.status()),
            summary(tokens),
            logits(*run),
            table(tokens)
        );
    }
    Some(out)
}

fn summary(tokens: &[Token]) -> String {
    let equal = tokens.iter().filter(|token| token.matches()).count();
    let ties = tokens
        .iter()
        .filter(|token| !token.matches() && token.tie())
        .count();
    let mut out = format!("{equal} of {} as expected", count(tokens.len(), "token"));
    if ties > 0 {
        out += &format!(", {} another way", count(ties, "tie"));
    }
    match wrong(tokens) {
        0 => out,
        wrong => format!("{out}, {wrong} wrong"),
    }
}

/// What the report has on the distribution itself, over all positions of the prompt.
fn logits(run: Run) -> String {
    let logits = run
        .tensors()
        .filter(|tensor| tensor.name() == "logits" && tensor.mode() == "accumulated");
    let mut out = String::new();
    for tensor in logits {
        let field = |key| number(tensor.0, key);
        let shown = [
            (
                "top-1 agreement",
                field("top1_agreement").map(|share| format!("{:.1} %", 100.0 * share)),
            ),
            (
                "KL divergence",
                field("kl_divergence").map(|nats| format!("{} nats", number_or_dash(Some(nats)))),
            ),
            (
                "regret",
                field("regret_nats").map(|nats| format!("{} nats", number_or_dash(Some(nats)))),
            ),
        ];
        let shown = shown
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let shown = shown.collect::<Vec<_>>().join(" \u{b7} ");
        if !shown.is_empty() {
            out += &format!("<p class=\"quiet\">Logits over the prompt: {shown}</p>\n");
        }
    }
    out
}

fn table(tokens: &[Token]) -> String {
    let rows = tokens
        .iter()
        .any(|token| token.integer("row").unwrap_or(0) != 0);
    let largest = tokens
        .iter()
        .filter_map(|token| number(token.0, "margin"))
        .fold(0.0, f64::max);
    let row_head = if rows {
        "<th scope=\"col\" class=\"num\">row</th>"
    } else {
        ""
    };
    let mut out = format!(
        "<div class=\"scroll\"><table class=\"tokens\"><thead><tr>{row_head}<th scope=\"col\" class=\"num\">step</th><th scope=\"col\" class=\"num\">position</th>\
         <th scope=\"col\" class=\"num\">expected</th><th scope=\"col\" class=\"num\">observed</th><th scope=\"col\">verdict</th>\
         <th scope=\"col\">margin</th><th scope=\"col\" class=\"num\">KL, nats</th><th scope=\"col\" class=\"num\">regret, nats</th></tr></thead>\n<tbody>\n",
    );
    for token in tokens.iter().take(SHOWN) {
        let integer = |key| {
            token
                .integer(key)
                .map_or(NOTHING.to_owned(), |value| value.to_string())
        };
        let (class, verdict) = match (token.matches(), token.tie()) {
            (true, false) => ("same", "\u{2713} same"),
            (true, true) => ("same", "\u{2713} same, a tie"),
            (false, true) => ("tie", "\u{2248} tie"),
            (false, false) => ("wrong", "\u{2717} wrong"),
        };
        let row = match rows {
            true => format!("<td class=\"num\">{}</td>", integer("row")),
            false => String::new(),
        };
        let margin = number(token.0, "margin");
        let width = if largest > 0.0 {
            60.0 * (margin.unwrap_or(0.0) / largest).clamp(0.0, 1.0)
        } else {
            0.0
        };
        out += &format!(
            "<tr class=\"{class}\">{row}<th scope=\"row\" class=\"num\">{}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"mark\">{verdict}</td><td class=\"bar\"><i style=\"width:{width:.1}%\"></i><span>{}</span></td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\n",
            integer("step"),
            integer("position"),
            integer("expected"),
            integer("observed"),
            number_or_dash(margin),
            number_or_dash(number(token.0, "kl_divergence")),
            number_or_dash(number(token.0, "regret_nats")),
        );
    }
    out += "</tbody></table></div>\n";
    if tokens.len() > SHOWN {
        out += &format!(
            "<p class=\"quiet\">The first {SHOWN} of {}; the rest is in the JSON report.</p>\n",
            tokens.len()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tie_is_told_from_an_error() {
        let run = json!({"backend": "flex", "tokens": [
            {"step": 0, "expected": 1, "observed": 1, "margin": 2.0},
            {"step": 1, "expected": 2, "observed": 3, "margin": 0.0, "tie": true},
            {"step": 2, "expected": 4, "observed": 5, "margin": 0.5},
            {"step": 3, "expected": null, "observed": null},
        ]});
        let html = section(&[Run(&run)]).unwrap();
        assert!(
            html.contains("1 of 4 tokens as expected, 1 tie another way, 2 wrong"),
            "{html}"
        );
        assert_eq!(html.matches("class=\"wrong\"").count(), 2);
        assert!(section(&[Run(&json!({"tokens": []}))]).is_none());
    }

    #[test]
    fn rows_have_a_column_only_in_a_batch() {
        let table = |row| table(&[Token(&json!({ "row": row }))]);
        assert!(!table(0).contains(">row<"));
        assert!(table(1).contains(">row<"));
    }
}
