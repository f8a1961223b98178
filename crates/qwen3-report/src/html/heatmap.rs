//! Layer by tensor: the error over its limit as a colour and a number.

mod modes;
mod table;

use maud::{Markup, html};
use qwen3_trace::Mode;

use self::modes::{elsewhere, tabs};
use super::grid::{Cell, Grid, modes, tensors, wrong_ids};
use super::text::{chip, count, ratio};
use crate::{RunResult, measure};

/// The section's body; `None` when nothing of any run was judged.
pub fn section(runs: &[RunResult]) -> Option<Markup> {
    let modes = modes(runs);
    // The first run that fails is what one opens the page for; when none does, the first that was compared.
    let fails = |run: &RunResult| !run.verdicts.pass();
    let compared = |run: &RunResult| !run.verdicts.is_empty();
    let opened = runs.iter().position(fails).or_else(|| runs.iter().position(compared))?;
    Some(html! {
        p.lead { "Each number is an error over its limit: the worse of the largest and of the rms error." }
        (tabs(&modes, runs, &runs[opened]))
        (legend())
        @for (index, run) in runs.iter().enumerate() {
            details."card heat" open[index == opened] {
                summary {
                    b { (run.label) } " " (chip(run.status)) " " span.quiet { (summary(run)) }
                    (strips(run, &modes))
                }
                @if compared(run) {
                    @for (index, mode) in modes.iter().enumerate() {
                        div class={ "mode m" (index) } {
                            @if let Some(elsewhere) = elsewhere(run, *mode) { p.elsewhere { (elsewhere) } }
                            @if let Some(grid) = Grid::new(run, *mode) { (table::render(&grid, run, *mode)) }
                            @else { p.quiet { "Nothing was compared as " (mode) "." } }
                        }
                    }
                } @else {
                    p.quiet { (run.reason.as_deref().unwrap_or("The report does not say why.")) }
                }
            }
        }
    })
}

fn legend() -> Markup {
    html! {
        div.legend {
            p {
                "within the limit, up to"
                @for (index, end) in ["0.003", "0.01", "0.03", "0.1", "0.3", "1"].iter().enumerate() {
                    span class={ "c" (index) } { (end) }
                }
            }
            p {
                "beyond it, up to"
                @for (index, end) in ["3", "10", "100", "10\u{2074}", "more"].iter().enumerate() {
                    span class={ "h" (index) } { (end) }
                }
            }
            p { span.hx { "not finite" } span.first-mark { "first divergence" } }
        }
    }
}

/// What a run's grids come to.
fn summary(run: &RunResult) -> Markup {
    let beyond = tensors(run).filter(|tensor| !tensor.verdict.pass).count();
    let wrong = wrong_ids(&run.verdicts.tokens);
    html! {
        @if let Some(worst) = measure::worst(tensors(run)) {
            (beyond) " of " (count(tensors(run).count(), "tensor")) " beyond the limit; worst "
            (ratio(measure::ratio(worst))) " \u{d7} limit: " code { (measure::title(worst)) } ", " (worst.mode)
        } @else { "no tensor was compared" }
        @if wrong > 0 { "; " (count(wrong, "wrong id")) }
    }
}

/// The worst at each depth as a row of colours, so that folded runs can be told apart too.
fn strips(run: &RunResult, modes: &[Mode]) -> Markup {
    html! {
        @for (index, mode) in modes.iter().enumerate() {
            @if let Some(grid) = Grid::new(run, *mode) {
                span class={ "strip m" (index) } aria-hidden="true" {
                    @for cell in grid.rows.values().filter_map(|row| worst(row)) { i class=(table::class(cell)) {} }
                }
            }
        }
    }
}

/// The cell that fails, or is closest to it.
fn worst<'a>(row: &[Option<Cell<'a>>]) -> Option<Cell<'a>> {
    let cells = row.iter().flatten().copied();
    cells.max_by(|a, b| a.fails().cmp(&b.fails()).then(table::size(*a).total_cmp(&table::size(*b))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor, token};

    #[test]
    fn the_first_run_that_fails_is_open() {
        let run = |pass: bool| {
            let logits = tensor(Mode::Isolated, "logits", Some(if pass { 0.5 } else { 1.5 }));
            sample::run("flex", Status::of(pass), vec![logits])
        };
        let (passes, fails) = (run(true), run(false));
        let none = sample::run("flex", Status::Crash, Vec::new());
        let opened = |runs: &[&RunResult]| {
            let runs: Vec<RunResult> = runs.iter().map(|run| (*run).clone()).collect();
            let html = section(&runs).unwrap().into_string();
            let folds = html.split("<details").skip(1);
            folds.map(|fold| fold.starts_with(" class=\"card heat\" open")).collect::<Vec<_>>()
        };
        assert_eq!(opened(&[&passes, &fails, &fails]), [false, true, false]);
        assert_eq!(opened(&[&none, &passes]), [false, true]);
        assert!(section(std::slice::from_ref(&none)).is_none());
        let crash = RunResult { reason: Some("signal <11>".into()), ..none };
        let html = section(&[passes, crash]).unwrap().into_string();
        assert!(html.contains("signal &lt;11&gt;") && html.matches("<table").count() == 1);
    }

    #[test]
    fn ids_alone_have_a_map_with_a_cell_that_fails() {
        let mut run = sample::run("observed", Status::Fail, Vec::new());
        run.verdicts.tokens = vec![token(0, 1, 1), token(1, 2, 3)];
        let html = section(&[run]).unwrap().into_string();
        assert!(html.contains("<th scope=\"row\">generated ids</th><td class=\"out ids h3\""), "{html}");
        assert!(html.contains("<i class=\"h3\">"), "in the strip, too: {html}");
        assert!(html.contains("no tensor was compared; 1 wrong id<"), "{html}");
    }
}
