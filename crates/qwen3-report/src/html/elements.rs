//! The elements that decide: where a tensor is furthest from the reference, and what stands beside it.

use maud::{Markup, html};
use qwen3_trace::{LayerVerdict, Mode, Neighbours};

use super::grid::tensors;
use super::scroll::scroll;
use super::text::{
    NOTHING, NUM, axes, chip, count, decimals, finite, fixed, heads, num, number, number_or_dash, ratio,
};
use crate::RunResult;
use crate::measure::{self, title};

/// Tensors of a run that get a card with their neighbours.
const CARDS: usize = 4;
/// Tensors of a run that get a line below the cards.
const LINES: usize = 60;

/// The section's body; `None` when no run has a tensor.
pub fn section(runs: &[RunResult]) -> Option<Markup> {
    let failing = runs.iter().map(|run| (run, failing(run)));
    let failing: Vec<_> = failing.filter(|(_, tensors)| !tensors.is_empty()).collect();
    if failing.is_empty() {
        return closest(runs);
    }
    Some(html! {
        p.lead {
            "Tensors beyond their limits: first those that are wrong by themselves, in the order of computation."
        }
        @for (index, (run, tensors)) in failing.iter().enumerate() {
            details open[index == 0] {
                summary {
                    b { (run.label) } " " (chip(run.status)) " "
                    span.quiet { (count(tensors.len(), "tensor")) " beyond the limit" }
                }
                div.elements { @for tensor in tensors.iter().take(CARDS) { (card(tensor)) } }
                @if tensors.len() > CARDS { (rest(&tensors[CARDS..])) }
            }
        }
    })
}

fn closest(runs: &[RunResult]) -> Option<Markup> {
    let worst = runs.iter().filter_map(|run| Some((run, measure::worst(tensors(run))?)));
    let closest = worst.max_by(|a, b| measure::ratio(a.1).total_cmp(&measure::ratio(b.1)));
    let (run, tensor) = closest?;
    Some(html! {
        p.lead { "Nothing is beyond its limit. The tensor closest to it, on " (run.label) ":" }
        div.elements { (card(tensor)) }
    })
}

/// Every failing tensor: isolated ones first, since the layers before them have no part in their errors.
fn failing(run: &RunResult) -> Vec<&LayerVerdict> {
    let modes = [Mode::Isolated, Mode::Accumulated, Mode::Patched];
    let failing = |tensor: &&LayerVerdict, mode| tensor.mode == mode && !tensor.verdict.pass;
    modes.into_iter().flat_map(|mode| tensors(run).filter(move |tensor| failing(tensor, mode))).collect()
}

fn card(tensor: &LayerVerdict) -> Markup {
    let verdict = &tensor.verdict;
    let of = |error, limit| html! { (finite(error)) " " span.quiet { "of " (number(limit)) } };
    let cosine = verdict.cosine.map_or(NOTHING.into(), |cosine| format!("{cosine:.7}"));
    let metrics = [
        ("largest error", of(verdict.max_abs, verdict.limit)),
        ("rms error", of(verdict.rms, verdict.limit_rms)),
        ("relative", html! { (finite(verdict.relative)) }),
        ("cosine", html! { (cosine) }),
        ("ULP", html! { (number_or_dash(verdict.max_ulp)) }),
        ("noise floor", html! { (number(verdict.noise_floor)) }),
    ];
    html! {
        article class={ "card " @if verdict.pass { "within" } @else { "beyond" } } {
            h3 {
                code { (title(tensor)) } " " span.quiet { (tensor.mode) } " "
                span.times { (ratio(measure::ratio(tensor))) " \u{d7} limit" }
            }
            p {
                "Element " (axes(&verdict.max_abs_index)) " of " (axes(&verdict.shape)) " is "
                b.num { (value(tensor, verdict.observed)) } " instead of "
                b.num { (value(tensor, verdict.expected)) } "."
            }
            @if let Some(around) = &tensor.neighbours { (neighbours(tensor, around)) }
            dl.metrics { @for (name, shown) in metrics { div { dt { (name) } dd { (shown) } } } }
        }
    }
}

/// A value in or beside the worst element, with the digits that its error changes.
fn value(tensor: &LayerVerdict, value: Option<f64>) -> String {
    fixed(value.unwrap_or(f64::NAN), decimals(tensor.verdict.max_abs))
}

/// Expected and observed values beside the worst element, along one axis.
fn neighbours(tensor: &LayerVerdict, around: &Neighbours) -> Markup {
    let (expected, observed) = (&around.expected, &around.observed);
    let worst = tensor.verdict.max_abs_index.get(around.axis);
    let columns = around.start..around.start.saturating_add(expected.len().max(observed.len()));
    let is_worst = |at: usize| worst == Some(&at);
    let finite = |values: &[Option<f64>], at: usize| values.get(at - around.start).copied().flatten();
    let shown = |values: &[Option<f64>], at: usize| match values.get(at - around.start) {
        Some(found) => value(tensor, *found),
        None => NOTHING.into(),
    };
    let difference = |at| Some(finite(observed, at)? - finite(expected, at)?);
    html! {
        @if !columns.is_empty() {
            (scroll(&format!("Around the worst element of {}", title(tensor)), &html! {
                table.near {
                    thead {
                        tr {
                            th scope="col" { "axis " (around.axis) }
                            @for at in columns.clone() { th.num.worst[is_worst(at)] scope="col" { (at) } }
                        }
                    }
                    tbody {
                        @for (name, values) in [("expected", expected), ("observed", observed)] {
                            tr {
                                th scope="row" { (name) }
                                @for at in columns.clone() { td.num.worst[is_worst(at)] { (shown(values, at)) } }
                            }
                        }
                        tr {
                            th scope="row" { "difference" }
                            @for at in columns {
                                td.num.worst[is_worst(at)] { (number_or_dash(difference(at))) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// The failing tensors that have no card, a line each.
fn rest(tensors: &[&LayerVerdict]) -> Markup {
    let columns = [
        ("tensor", None),
        ("mode", None),
        ("\u{d7} limit", NUM),
        ("element", None),
        ("expected", NUM),
        ("observed", NUM),
        ("error", NUM),
        ("limit", NUM),
    ];
    html! {
        details.card {
            summary { (count(tensors.len(), "tensor")) " more" }
            (scroll("Tensors beyond their limits", &html! {
                table { (heads(&columns)) tbody { @for tensor in tensors.iter().take(LINES) { (line(tensor)) } } }
            }))
            @if tensors.len() > LINES {
                p.quiet {
                    "And " (count(tensors.len() - LINES, "more tensor")) ": see the grids above or the JSON report."
                }
            }
        }
    }
}

fn line(tensor: &LayerVerdict) -> Markup {
    let verdict = &tensor.verdict;
    html! {
        tr {
            th scope="row" { code { (title(tensor)) } }
            td { (tensor.mode) }
            (num(ratio(measure::ratio(tensor))))
            td { (axes(&verdict.max_abs_index)) }
            (num(value(tensor, verdict.expected)))
            (num(value(tensor, verdict.observed)))
            (num(finite(verdict.max_abs)))
            (num(number(verdict.limit)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor};

    #[test]
    fn isolated_failures_come_first_and_the_rest_is_capped() {
        let accumulated = |at| tensor(Mode::Accumulated, &format!("acc{at}"), Some(2.0));
        let mut tensors: Vec<LayerVerdict> = (0..70).map(accumulated).collect();
        tensors.push(tensor(Mode::Isolated, "culprit", Some(2.0)));
        let html = section(&[sample::run("wgpu", Status::Fail, tensors)]).unwrap().into_string();
        assert!(html.find("culprit").unwrap() < html.find("acc0").unwrap());
        assert!(html.contains("67 tensors more") && html.contains("And 7 more tensors"));
    }

    #[test]
    fn the_closest_is_shown_when_all_pass() {
        let passing = |name, ratio| tensor(Mode::Isolated, name, Some(ratio));
        let tensors = vec![passing("far", 0.1), passing("close", 0.7)];
        let none = sample::run("flex", Status::Pass, Vec::new());
        let html = section(&[none, sample::run("flex", Status::Pass, tensors)]).unwrap().into_string();
        assert!(html.contains("close") && !html.contains("far<"));
        assert!(section(&[]).is_none());
    }

    #[test]
    fn the_worst_element_is_marked_among_its_neighbours() {
        let mut tensor = tensor(Mode::Isolated, "logits", Some(0.1));
        tensor.verdict.max_abs_index = vec![0, 11];
        let mut around = Neighbours {
            axis: 1,
            start: 10,
            expected: vec![Some(1.0), Some(2.0), Some(3.0)],
            observed: vec![Some(1.0), None],
        };
        let html = neighbours(&tensor, &around).into_string();
        assert_eq!(html.matches("num worst").count(), 4);
        assert!(html.contains(">11</th>") && html.contains("not finite"));
        (around.expected, around.observed) = (Vec::new(), Vec::new());
        assert_eq!(neighbours(&tensor, &around).into_string(), "");
        assert!(!card(&tensor).into_string().contains("<table"));
    }
}
