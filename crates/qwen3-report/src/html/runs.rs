//! One line a run: what it ran on, how it ended, and what it took.

use maud::{Markup, html};
use qwen3_trace::Switches;

use super::text::{NOTHING, NUM, chip, duration, heads, megabytes, num, ratio};
use crate::{RunResult, measure};

/// The section's body; `None` when there are no runs.
pub fn section(runs: &[RunResult]) -> Option<Markup> {
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
    (!runs.is_empty()).then(|| {
        html! {
            div."card scroll" {
                table.runs { (heads(&columns)) tbody { @for run in runs { (row(run)) } } }
            }
        }
    })
}

fn row(run: &RunResult) -> Markup {
    let tensors = &run.verdicts.tensors;
    let passed = tensors.iter().filter(|tensor| tensor.verdict.pass).count();
    let within = (!tensors.is_empty()).then(|| format!("{passed} of {}", tensors.len()));
    let worst = measure::worst(tensors).map(|worst| ratio(measure::ratio(worst)));
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
            (or_dash(run.peak_rss_mb.map(megabytes)))
        }
        @for line in run.reason.iter().cloned().chain(run.not_compared()) {
            tr.reason { td colspan="8" { (line) } }
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
        let html = section(std::slice::from_ref(&run)).unwrap().into_string();
        assert!(html.contains("unavailable") && html.contains("no &lt;device&gt;"));
        let run = RunResult { unread: vec!["a".into(), "b\u{1b}[2J".into()], ..run };
        let html = section(&[run]).unwrap().into_string();
        assert!(html.contains("not compared: a, b\\u{1b}[2J"), "{html}");
        assert!(section(&[]).is_none());
    }

    #[test]
    fn switches_that_are_off_stand_out() {
        let shown = |fusion, autotune| switches(Some(Switches { fusion, autotune })).into_string();
        assert_eq!(shown(true, false), "fusion on, <b>autotune off</b>");
        assert_eq!(shown(false, true), "<b>fusion off</b>, autotune on");
        assert_eq!(switches(None).into_string(), NOTHING);
    }
}
