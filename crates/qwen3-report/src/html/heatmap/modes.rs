//! Which mode is shown, and what the one that is shown does not show.

use maud::{Markup, PreEscaped, html};
use qwen3_trace::{LayerVerdict, Mode};

use crate::RunResult;
use crate::html::grid::{Grid, tensors, wrong_ids};
use crate::html::text::count;

/// Radio buttons: they work without scripts, and with the arrow keys. The first mode in which `shown` fails is
/// chosen; a lone mode is only named.
pub fn tabs(modes: &[Mode], runs: &[RunResult], shown: &RunResult) -> Markup {
    let what = |mode| match mode {
        Mode::Accumulated => "each layer on the output of the one before",
        Mode::Isolated => "each layer on the reference's own input",
        Mode::Patched => "the reference put in after a layer, the rest computed",
    };
    let chosen = modes.iter().position(|mode| fails(shown, *mode)).unwrap_or(0);
    let rule = |index| {
        format!("#heatmap:has(#mode-{index}:checked) :is(.mode,.strip):not(.m{index}){{display:none}}")
    };
    html! {
        @if let [mode] = modes {
            p.quiet { b { (mode) } ": " (what(*mode)) }
        } @else {
            fieldset.tabs {
                legend { "Mode" }
                @for (index, mode) in modes.iter().enumerate() {
                    input type="radio" name="mode" id={ "mode-" (index) } checked[index == chosen];
                    label for={ "mode-" (index) } {
                        (mode)
                        @if runs.iter().any(|run| fails(run, *mode)) { span.fails-here { " \u{2717}" } }
                        small { (what(*mode)) }
                    }
                }
            }
            style { @for index in 0..modes.len() { (PreEscaped(rule(index))) } }
        }
    }
}

fn fails(run: &RunResult, mode: Mode) -> bool {
    Grid::new(run, mode).is_some_and(|grid| grid.cells().any(|cell| cell.fails()))
}

/// What fails in other modes of a run of which this one shows no failure: a run that fails never has a map that
/// says nothing of it.
pub fn elsewhere(run: &RunResult, mode: Mode) -> Option<String> {
    if fails(run, mode) || run.verdicts.pass() {
        return None;
    }
    let failing = |other: &Mode| {
        let failing = |tensor: &&LayerVerdict| tensor.mode == *other && !tensor.verdict.pass;
        tensors(run).filter(failing).count()
    };
    let modes = Mode::ALL.iter().filter(|other| failing(other) > 0);
    let mut parts: Vec<String> =
        modes.map(|other| format!("{} {other}", count(failing(other), "tensor"))).collect();
    match wrong_ids(&run.verdicts.tokens) {
        0 => {}
        wrong => parts.push(count(wrong, "generated id")),
    }
    Some(format!("Nothing fails as {mode}. What fails: {}.", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor, token};

    fn run() -> RunResult {
        let passes = |mode| tensor(mode, "logits", Some(0.5));
        let fails = tensor(Mode::Isolated, "layer_00_output", Some(1.5));
        sample::run("flex", Status::Fail, vec![passes(Mode::Accumulated), fails, passes(Mode::Patched)])
    }

    #[test]
    fn the_mode_that_fails_is_chosen_and_marked() {
        let run = run();
        let html = tabs(&Mode::ALL, std::slice::from_ref(&run), &run).into_string();
        assert!(html.contains("id=\"mode-1\" checked>"), "{html}");
        assert_eq!((html.matches(" checked").count(), html.matches("fails-here").count()), (1, 1));
    }

    #[test]
    fn a_lone_mode_is_no_button() {
        let run = run();
        let html = tabs(&[Mode::Isolated], std::slice::from_ref(&run), &run).into_string();
        assert!(html.contains("isolated") && !html.contains("<input") && !html.contains("<label"), "{html}");
    }

    #[test]
    fn a_mode_without_a_failure_says_where_it_is() {
        let mut run = run();
        run.verdicts.tokens = vec![token(0, 1, 1)];
        let expected = "Nothing fails as accumulated. What fails: 1 tensor isolated.";
        assert_eq!(elsewhere(&run, Mode::Accumulated).unwrap(), expected);
        assert_eq!(elsewhere(&run, Mode::Isolated), None);
        run.verdicts.tokens.push(token(1, 2, 3));
        assert_eq!(elsewhere(&run, Mode::Accumulated), None, "the wrong id is in this mode's map");
        let patched = elsewhere(&run, Mode::Patched).unwrap();
        assert!(patched.ends_with("1 tensor isolated, 1 generated id."), "{patched}");
        run.verdicts.tensors.remove(1);
        run.verdicts.tokens.pop();
        assert_eq!(elsewhere(&run, Mode::Patched), None, "nothing fails at all");
    }
}
