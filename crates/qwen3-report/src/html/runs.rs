//! One line a run: what it ran on, how it ended, and what it took.

use maud::{Markup, html};
use qwen3_trace::Switches;

use super::grid::tensors;
use super::scroll::card;
use super::text::{NOTHING, NUM, chip, duration, heads, mebibytes, num, ratio};
use crate::{RunResult, VerifyReport, measure};

/// The section's body; `None` when there are no runs.
pub fn section(report: &VerifyReport) -> Option<Markup> {
    let runs = &report.runs;
    let columns = [
        ("backend", None),
        ("dtype", None),
        ("switches", None),
        ("verdict", None),
        ("within limit", NUM),
        ("worst \u{d7} limit", NUM),
        ("time", NUM),
        ("peak memory", NUM),
    ];
    // Of somebody's activations the memory would be that of this program.
    let columns = if report.observed.is_none() { &columns[..] } else { &columns[..columns.len() - 1] };
    (!runs.is_empty()).then(|| {
        card(
            "Runs",
            &html! {
                table.runs { (heads(columns)) tbody { @for run in runs { (row(run, columns.len())) } } }
            },
        )
    })
}

fn row(run: &RunResult, columns: usize) -> Markup {
    let (passed, total) = (tensors(run).filter(|tensor| tensor.verdict.pass).count(), tensors(run).count());
    let within = (total > 0).then(|| format!("{passed} of {total}"));
    let worst = measure::worst(tensors(run)).map(|worst| ratio(measure::ratio(worst)));
    let or_dash = |shown: Option<String>| num(shown.unwrap_or(NOTHING.into()));
    html! {
        tr {
            th scope="row" {
                (run.label.backend)
                @if let Some(variant) = &run.label.variant { " " span.quiet { (variant) } }
            }
            td { (run.label.dtype) }
            td { (switches(run.switches)) }
            td { (chip(run.status)) }
            (or_dash(within))
            (or_dash(worst))
            (num(duration(run.elapsed_ms)))
            @if columns == 8 { (or_dash(run.peak_rss_mb.map(mebibytes))) }
        }
        @for line in run.reason.iter().cloned().chain(run.compared()) {
            tr.reason { td colspan=(columns) { (line) } }
        }
    }
}

/// A verdict on a compiling backend holds for these switches only.
fn switches(switches: Option<Switches>) -> Markup {
    let switch = |name: &str, on: bool| {
        html! { @if on { (name) " on" } @else { b { (name) " off" } } }
    };
    match switches {
        Some(Switches { fusion, autotune }) => {
            html! { (switch("fusion", fusion)) ", " (switch("autotune", autotune)) }
        }
        None => html! { (NOTHING) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Status, sample};

    #[test]
    fn a_run_without_tensors_has_a_line_and_its_reason() {
        let label = sample::run("cuda", Status::Pass, Vec::new()).label;
        let run = RunResult::stopped(label, Status::Unavailable, "no <device>".into());
        let shown = |run: &RunResult| section(&sample::report_of(vec![run.clone()])).unwrap().into_string();
        let html = shown(&run);
        assert!(html.contains("unavailable") && html.contains("no &lt;device&gt;"));
        let label = sample::run(crate::OBSERVED, Status::Pass, Vec::new()).label;
        let run = RunResult { unread: vec!["a".into(), "b\u{1b}[2J".into()], ..RunResult::new(label) };
        let html = shown(&run);
        assert!(html.contains("compared 0 tensors; ignored 2: a, b\\u{1b}[2J"), "{html}");
        assert!(section(&sample::report_of(Vec::new())).is_none());
    }

    #[test]
    fn what_judging_took_is_not_told_as_what_a_run_took() {
        let mut report = sample::report(4);
        assert!(section(&report).unwrap().into_string().contains("peak memory"));
        report.observed = Some("mine.npz".into());
        let html = section(&report).unwrap().into_string();
        assert!(
            !html.contains("peak memory") && !html.contains("MiB") && html.contains("colspan=\"7\""),
            "{html}"
        );
    }

    #[test]
    fn switches_that_are_off_stand_out() {
        let shown = |fusion, autotune| switches(Some(Switches { fusion, autotune })).into_string();
        assert_eq!(shown(true, false), "fusion on, <b>autotune off</b>");
        assert_eq!(shown(false, true), "<b>fusion off</b>, autotune on");
        assert_eq!(switches(None).into_string(), NOTHING);
    }
}
