//! Error over limit by depth, one plot a run and one line a mode, as inline SVG.

mod axes;

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};
use qwen3_trace::Mode;

use self::axes::{Scale, decades, ticks};
use super::grid::{Grid, Place, modes};
use super::svg::{self, BOTTOM, HEIGHT, MARKERS, NARROW, TOP, axis_names, below, keys, level, one, per_cent};
use super::text::{chip, ratio};
use crate::RunResult;

/// From how many pixels on a plot shows the labels that a wide one has room for; page.css has it, too.
const WIDE: f64 = 700.0;

/// The mode's index among all that the report has, and its value at each depth.
type Line<'a> = (usize, Mode, BTreeMap<Place<'a>, f64>);

/// The section's body; `None` when no run has a tensor.
pub fn section(runs: &[RunResult]) -> Option<Markup> {
    let modes = modes(runs);
    let plots = runs.iter().map(|run| (run, lines(run, &modes)));
    let plots: Vec<(&RunResult, Vec<Line>)> = plots.filter(|plot| !plot.1.is_empty()).collect();
    // One scale for all plots, so that runs can be compared by eye.
    let values = plots.iter().flat_map(|plot| &plot.1).flat_map(|line| line.2.values());
    let scale = Scale::new(values.copied());
    let drawn = modes
        .iter()
        .enumerate()
        .filter(|(index, _)| plots.iter().flat_map(|plot| &plot.1).any(|line| line.0 == *index));
    (!plots.is_empty()).then(|| {
        html! {
            p.lead {
                "The worst tensor at each depth. An accumulated error that an isolated run does not have came from \
                 an earlier layer; a patched point is the error of the logits once the reference is put in after \
                 that layer."
            }
            (keys(drawn.map(|(index, mode)| (format!("line s{index}"), Some(index), mode.name()))))
            (PreEscaped(MARKERS))
            div.plots {
                @for (run, lines) in &plots {
                    figure.card {
                        figcaption { b { (run.label) } " " (chip(run.status)) }
                        (plot(&format!("{}: {}", run.label, summary(lines)), lines, &scale))
                    }
                }
            }
        }
    })
}

/// A line for each mode that the run has a number of.
fn lines<'a>(run: &'a RunResult, modes: &[Mode]) -> Vec<Line<'a>> {
    let line = |(index, mode): (usize, &Mode)| Some((index, *mode, Grid::new(run, *mode)?.worst_by_place()));
    modes.iter().enumerate().filter_map(line).filter(|line| !line.2.is_empty()).collect()
}

/// A plot; `name` is what it is to those who do not see it.
fn plot(name: &str, lines: &[Line], scale: &Scale) -> Markup {
    let mut places: Vec<Place> = lines.iter().flat_map(|line| line.2.keys().copied()).collect();
    places.sort_unstable();
    places.dedup();
    let step = 100.0 / places.len() as f64;
    let x = |index: usize| (index as f64 + 0.5) * step;
    let limit = scale.y(1.0);
    let labels = |class: &str, width: f64| {
        let ticks = ticks(&places, width / places.len() as f64);
        html! { @for (at, name) in ticks { (below(class, x(at), &name)) } }
    };
    let body = html! {
        rect.beyond y=(TOP) width="100%" height=(one(limit - TOP)) {}
        (decades(scale))
        (labels("tick narrow", NARROW))
        (labels("tick wide", WIDE))
        (axis_names("layer", "error / limit"))
        (level("one", limit))
        text.one-label x="4" y=(one(limit - 5.0)) { "limit" }
        (svg::stretched(&html! {
            @for (index, _, values) in lines { path class={ "line s" (index) } d=(path(values, &places, x, scale)) {} }
        }))
        @for (index, _, values) in lines {
            @for (at, value) in places.iter().enumerate().filter_map(|(at, place)| Some((at, values.get(place)?))) {
                (svg::marker(*index, "", x(at), scale.y(*value)))
            }
        }
        @for (at, place) in places.iter().enumerate() {
            rect.hit x=(per_cent(x(at) - step / 2.0)) y=(TOP) width=(per_cent(step)) height=(one(HEIGHT - BOTTOM - TOP)) {
                title { (place.label()) ": " (values_at(lines, place)) }
            }
        }
    };
    svg::plot(name, &body)
}

/// A line joins neighbours only: a gap is nothing measured.
fn path(values: &BTreeMap<Place, f64>, places: &[Place], x: impl Fn(usize) -> f64, scale: &Scale) -> String {
    let mut path = String::new();
    let mut before = None;
    for (at, place) in places.iter().enumerate() {
        let Some(value) = values.get(place) else { continue };
        let joined = before.is_some_and(|before: usize| before + 1 == at);
        let command = if joined { 'L' } else { 'M' };
        path += &format!("{command}{:.2} {:.1}", x(at), scale.y(*value));
        before = Some(at);
    }
    path
}

fn values_at(lines: &[Line], place: &Place) -> String {
    let values = lines.iter().filter_map(|(_, mode, values)| Some((mode, values.get(place)?)));
    let values = values.map(|(mode, value)| format!("{mode} {}", ratio(*value)));
    values.collect::<Vec<_>>().join(", ")
}

/// The lines in words, for those who do not see them.
fn summary(lines: &[Line]) -> String {
    let parts = lines.iter().map(|(_, mode, values)| {
        let first = values.iter().find(|(_, ratio)| **ratio > 1.0);
        let worst = values.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let peak = worst.map_or(String::new(), |(place, value)| {
            format!("at most {} at {}", ratio(*value), place.label())
        });
        match first {
            Some((place, _)) => format!("{mode} first beyond the limit at {}, {peak}", place.label()),
            None => format!("{mode} within the limit, {peak}"),
        }
    });
    format!("error over limit by layer; {}", parts.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor};

    #[test]
    fn a_gap_breaks_the_line() {
        let tensors = vec![
            tensor(Mode::Isolated, "layer_00.x", Some(0.5)),
            tensor(Mode::Accumulated, "layer_01.x", Some(0.5)),
            tensor(Mode::Isolated, "layer_02.x", Some(0.5)),
        ];
        let html = section(&[sample::run("flex", Status::Pass, tensors)]).unwrap().into_string();
        let path = html.split("<path class=\"line s1\" d=\"").last().unwrap();
        let path = path.split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(section(&[sample::run("flex", Status::Pass, Vec::new())]).is_none());
    }
}
