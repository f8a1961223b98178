//! Speed by the length of the prompt, by what the cache holds, and by how many sequences run side by side.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};

use super::Shown;
use crate::bench::{Figures, Phase, Workload};
use crate::html::plot::{Line, Look, Plot, Point, figure};
use crate::html::svg::{MARKERS, STYLES};
use crate::measure::three_digits;

/// Plots of batches that a page has at most: all figures are in its tables.
const BATCHES: usize = 4;

/// The section's body; `None` when there is nothing to plot.
pub fn section(lanes: &[Shown]) -> Option<Markup> {
    let mut plots = Vec::new();
    for (fixed, _) in groups(lanes, prompts) {
        let title = format!("Prefill{}, by the length of the prompt", also(&fixed, &["context"]));
        plots.push(plot(lanes, title, "prompt in tokens (each doubling as far)", prompts, &fixed));
    }
    for (fixed, _) in groups(lanes, contexts) {
        let title = format!("Decoding {} tokens, by what the cache holds", fixed[0]);
        plots.push(plot(lanes, title, "context in tokens (each doubling as far)", contexts, &fixed));
    }
    let several = groups(lanes, batches).into_iter().filter(|(_, sizes)| sizes.len() > 1);
    for (fixed, _) in several.take(BATCHES) {
        let title = match fixed[0] {
            0 => format!("Prefill of {}, by batch", fixed[1]),
            _ => format!("Decoding {} tokens at {}, by batch", fixed[1], fixed[2]),
        };
        plots.push(plot(lanes, title, "sequences side by side (each doubling as far)", batches, &fixed));
    }
    let figures: Vec<Markup> = plots.iter().filter_map(figure).collect();
    (!figures.is_empty()).then(|| {
        html! {
            p.lead {
                "The median of each row, with its spread as a bar. Dashed is what the machine's memory and arithmetic \
                 allow at most, as measured in the same run. Point at a mark for its numbers."
            }
            (PreEscaped(MARKERS))
            div."plots pair" { @for figure in figures { (figure) } }
        }
    })
}

/// Where a workload lies in a plot, and what all workloads of the plot have in common; `None` when it is of another
/// kind of plot.
type Axis = fn(&Workload) -> Option<(usize, Vec<usize>)>;

fn prompts(workload: &Workload) -> Option<(usize, Vec<usize>)> {
    let Workload { phase, tokens, context, batch } = *workload;
    (phase == Phase::Prefill && batch == 1).then(|| (tokens, vec![context]))
}

fn contexts(workload: &Workload) -> Option<(usize, Vec<usize>)> {
    let Workload { phase, tokens, context, batch } = *workload;
    (phase == Phase::Decode && batch == 1).then(|| (context, vec![tokens]))
}

fn batches(workload: &Workload) -> Option<(usize, Vec<usize>)> {
    let Workload { phase, tokens, context, batch } = *workload;
    let rank = match phase {
        Phase::Load | Phase::FirstToken => return None,
        Phase::Prefill => 0,
        Phase::Decode => 1,
    };
    Some((batch, vec![rank, tokens, context]))
}

/// The plots of a kind: what is fixed in each, and where on its axis there are rows.
fn groups(lanes: &[Shown], axis: Axis) -> BTreeMap<Vec<usize>, BTreeSet<usize>> {
    let mut groups = BTreeMap::<Vec<usize>, BTreeSet<usize>>::new();
    for row in lanes.iter().flat_map(|lane| &lane.rows) {
        if let Some((x, fixed)) = axis(&row.workload) {
            groups.entry(fixed).or_default().insert(x);
        }
    }
    groups
}

/// What of the fixed is not 0: ` (context 128)`.
fn also(fixed: &[usize], names: &[&str]) -> String {
    let parts = names.iter().zip(fixed).filter(|(_, value)| **value > 0);
    let parts: Vec<String> = parts.map(|(name, value)| format!("{name} {value}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn plot(lanes: &[Shown], title: String, x: &'static str, axis: Axis, fixed: &[usize]) -> Plot {
    let here = |row: &&&Figures| axis(&row.workload).is_some_and(|(_, other)| other == fixed);
    let place = |row: &Figures| axis(&row.workload).map_or(0, |(x, _)| x);
    let (mut lines, mut limits) = (Vec::new(), Vec::<Line>::new());
    for (index, lane) in lanes.iter().enumerate() {
        let style = index % STYLES;
        let rows: Vec<&&Figures> = lane.rows.iter().filter(here).collect();
        let points = rows.iter().map(|row| Point {
            x: place(row),
            y: row.median(),
            spread: Some(row.extremes()),
            title: numbers(row),
        });
        let look = if lane.is_wrong() { Look::Wrong } else { Look::Solid };
        let points: Vec<Point> = points.collect();
        if points.is_empty() {
            continue;
        }
        lines.push(Line { name: lane.marked(), style, look, points });
        let points = rows.iter().filter_map(|row| {
            let limit = row.limit_tok_per_s?;
            Some(Point {
                x: place(row),
                y: limit,
                spread: None,
                title: format!("{} tok/s", three_digits(limit)),
            })
        });
        let points: Vec<Point> = points.collect();
        // Backends of one dtype have one limit, and what has its own has a line of its own.
        let near = |a: &Point, b: &Point| a.x == b.x && (a.y - b.y).abs() <= 0.01 * b.y.abs();
        let drawn =
            |line: &Line| points.iter().all(|point| line.points.iter().any(|other| near(point, other)));
        if !points.is_empty() && !limits.iter().any(drawn) {
            limits.push(Line { name: format!("limit of {}", lane.name), style, look: Look::Limit, points });
        }
    }
    lines.extend(limits);
    Plot { title, x, y: "tokens per second", lines }
}

/// A row's numbers in words.
fn numbers(row: &Figures) -> String {
    let [least, greatest] = row.extremes().map(three_digits);
    let share = row.of_limit.map_or(String::new(), |share| format!(", {:.0} % of the limit", 100.0 * share));
    let disturbed = if row.disturbed > 0 { ", disturbed" } else { "" };
    let median = three_digits(row.median());
    format!("{}: {median} {} ({least} to {greatest}){share}{disturbed}", row.workload, row.unit)
}
