//! The generated tokens: expected and observed ids beside the margin that the reference chose them by.

use maud::{Markup, html};
use qwen3_trace::{Mode, TokenVerdict};

use super::grid::wrong_ids;
use super::scroll::scroll;
use super::text::{NUM, chip, count, heads, num, number, number_or_dash};
use crate::RunResult;

/// Tokens of a run that are shown; a page is no place for thousands.
const SHOWN: usize = 200;

/// The section's body; `None` when no run generated any.
pub fn section(runs: &[RunResult]) -> Option<Markup> {
    let with_tokens = runs.iter().filter(|run| !run.verdicts.tokens.is_empty());
    let with_tokens: Vec<&RunResult> = with_tokens.collect();
    // A wrong token is what one looks for; when there is none, one table shows what they all look like.
    let wrong = with_tokens.iter().position(|run| run.verdicts.wrong_token().is_some());
    let opened = wrong.unwrap_or(0);
    (!with_tokens.is_empty()).then(|| {
        html! {
            p.lead {
                "The margin is by how much the reference preferred its first choice over its second: an id that \
                 differs where the margin is next to nothing is a tie, not an error. Regret is what the other \
                 choice costs."
            }
            @for (index, run) in with_tokens.into_iter().enumerate() {
                details.card open[index == opened] {
                    summary {
                        b { (run.label) } " " (chip(run.status)) " "
                        span.quiet { (summary(&run.verdicts.tokens)) }
                    }
                    (logits(run))
                    (table(&run.verdicts.tokens))
                }
            }
        }
    })
}

fn same(token: &TokenVerdict) -> bool {
    i64::from(token.expected) == token.observed
}

/// How many are right, ties and wrong, in words.
pub fn summary(tokens: &[TokenVerdict]) -> String {
    let equal = tokens.iter().filter(|token| same(token)).count();
    let wrong = wrong_ids(tokens);
    let ties = tokens.len() - equal - wrong;
    let mut out = format!("{equal} of {} as expected", count(tokens.len(), "token"));
    if ties > 0 {
        out += &format!(", {} another way", count(ties, "tie"));
    }
    if wrong > 0 {
        out += &format!(", {wrong} wrong");
    }
    out
}

/// What the report has on the distribution itself, over all positions of the prompt.
fn logits(run: &RunResult) -> Markup {
    let nats = |nats: f64| format!("{} nats", number(nats));
    let logits = run.verdicts.of(Mode::Accumulated).filter(|tensor| tensor.verdict.name == "logits");
    let lines = logits.map(|tensor| {
        let shown = [
            ("top-1 agreement", tensor.top1_agreement.map(|share| format!("{:.1} %", 100.0 * share))),
            ("KL divergence", tensor.kl_divergence.map(nats)),
            ("regret", tensor.regret_nats.map(nats)),
        ];
        let shown = shown.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        shown.collect::<Vec<_>>().join(" \u{b7} ")
    });
    html! {
        @for line in lines.filter(|line| !line.is_empty()) { p.quiet { "Logits over the prompt: " (line) } }
    }
}

fn table(tokens: &[TokenVerdict]) -> Markup {
    let rows = tokens.iter().any(|token| token.row != 0);
    let columns = [
        ("row", NUM),
        ("step", NUM),
        ("verdict", None),
        ("expected", NUM),
        ("observed", NUM),
        ("position", NUM),
        ("margin", None),
        ("KL, nats", NUM),
        ("regret, nats", NUM),
    ];
    let columns = if rows { &columns[..] } else { &columns[1..] };
    let largest = tokens.iter().filter_map(|token| token.margin).fold(0.0, f64::max);
    html! {
        (scroll("Generated tokens", &html! {
            table.tokens {
                (heads(columns))
                tbody { @for token in tokens.iter().take(SHOWN) { (line(token, rows, largest)) } }
            }
        }))
        @if tokens.len() > SHOWN {
            p.quiet { "The first " (SHOWN) " of " (tokens.len()) "; the rest is in the JSON report." }
        }
    }
}

fn line(token: &TokenVerdict, rows: bool, largest: f64) -> Markup {
    let (class, verdict) = match (same(token), token.tie) {
        (true, false) => ("same", "\u{2713} same"),
        (true, true) => ("same", "\u{2713} same, a tie"),
        (false, true) => ("tie", "\u{2248} tie"),
        (false, false) => ("wrong", "\u{2717} wrong"),
    };
    let share = token.margin.filter(|_| largest > 0.0).map_or(0.0, |margin| margin / largest);
    let width = 60.0 * share.clamp(0.0, 1.0);
    html! {
        tr class=(class) {
            @if rows { td.num { (token.row) } }
            th.num scope="row" { (token.step) }
            td.mark { (verdict) }
            td.num { (id(token.expected.into(), &token.expected_text)) }
            td."num observed" { (id(token.observed, &token.observed_text)) }
            td.num { (token.position) }
            td.bar { i style=(format_args!("width:{width:.1}%")) {} span { (number_or_dash(token.margin)) } }
            (num(number_or_dash(token.kl_divergence)))
            (num(number_or_dash(token.regret_nats)))
        }
    }
}

/// An id, with its text where that is known.
fn id(id: i64, text: &Option<String>) -> Markup {
    html! { (id) @if let Some(text) = text { " " code { (format_args!("{text:?}")) } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, token};

    #[test]
    fn a_tie_is_told_from_an_error() {
        let mut run = sample::run("flex", Status::Fail, Vec::new());
        assert!(section(std::slice::from_ref(&run)).is_none());
        run.verdicts.tokens = vec![token(0, 1, 1), token(1, 2, 3), token(2, 4, 5), token(3, 6, -1)];
        run.verdicts.tokens[1].tie = true;
        let html = section(&[run]).unwrap().into_string();
        assert!(html.contains("1 of 4 tokens as expected, 1 tie another way, 2 wrong"), "{html}");
        assert_eq!(html.matches("class=\"wrong\"").count(), 2);
    }

    /// Beside its id, as a text that is a file's: escaped.
    #[test]
    fn a_text_stands_beside_its_id() {
        let mut token = token(0, 1, 2);
        (token.expected_text, token.observed_text) = (Some(" a<b>".into()), Some("\n".into()));
        let html = table(&[token]).into_string();
        assert!(
            html.contains("1 <code>\" a&lt;b&gt;\"</code>")
                || html.contains("1 <code>&quot; a&lt;b&gt;&quot;</code>"),
            "{html}"
        );
        assert!(html.contains("\\n"), "{html}");
    }

    #[test]
    fn rows_have_a_column_only_in_a_batch() {
        let table = |row| {
            let token = TokenVerdict { row, ..token(0, 1, 1) };
            table(&[token]).into_string()
        };
        assert!(!table(0).contains(">row<"));
        assert!(table(1).contains(">row<"));
    }
}
