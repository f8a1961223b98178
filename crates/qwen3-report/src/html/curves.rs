//! Error over limit by depth, one plot a run and one line a mode, as inline SVG.

mod axes;

use std::collections::BTreeMap;

use self::axes::{BOTTOM, HEIGHT, LEFT, RIGHT, Scale, TOP, decades, ticks};
use super::grid::{Grid, Place, modes};
use super::text::{chip, esc, ratio};
use crate::verify::view::Run;

type Line<'a> = (&'a str, BTreeMap<Place<'a>, f64>);

/// The section's body; `None` when no run has a tensor.
pub fn section(runs: &[Run]) -> Option<String> {
    let modes = modes(runs);
    let plots = runs.iter().map(|&run| (run, lines(run, &modes)));
    let plots: Vec<(Run, Vec<Line>)> = plots.filter(|plot| !plot.1.is_empty()).collect();
    let width = match plots.len() {
        0 => return None,
        1 => 1080.0,
        2 => 530.0,
        _ => 372.0,
    };
    // One scale for all plots, so that runs can be compared by eye.
    let values = plots
        .iter()
        .flat_map(|plot| &plot.1)
        .flat_map(|line| line.1.values());
    let scale = Scale::new(width, values.copied());
    let mut out = String::from(
        "<p class=\"lead\">The worst tensor at each depth. An accumulated error that an isolated run does not have came from an earlier layer; \
         a patched point is the error of the logits once the reference is put in after that layer.</p>\n<p class=\"keys\">",
    );
    for (index, mode) in modes.iter().enumerate() {
        out += &format!(
            "<span><svg width=\"44\" height=\"12\" aria-hidden=\"true\"><path class=\"line s{0}\" d=\"M4 6L22 6L40 6\"/></svg> {1}</span>",
            index % 3,
            esc(mode)
        );
    }
    out += "</p>\n";
    out += MARKERS;
    out += "<div class=\"plots\">\n";
    for (run, lines) in plots {
        let label = esc(&run.label());
        out += &format!(
            "<figure class=\"card\"><figcaption><b>{label}</b> {}</figcaption>\n{}</figure>\n",
            chip(run.status()),
            plot(&label, &lines, &modes, &scale)
        );
    }
    Some(out + "</div>\n")
}

/// A line for each mode that the run has a number of.
fn lines<'a>(run: Run<'a>, modes: &[&'a str]) -> Vec<Line<'a>> {
    let line = |mode| Some((mode, Grid::new(run, mode)?.worst_by_place()));
    let lines = modes.iter().filter_map(|&mode| line(mode));
    lines.filter(|line| !line.1.is_empty()).collect()
}

/// A shape for each line, so that colour is not the only difference.
const MARKERS: &str = "<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs>\
<marker id=\"k0\" viewBox=\"0 0 6 6\" refX=\"3\" refY=\"3\" markerWidth=\"5\" markerHeight=\"5\" markerUnits=\"userSpaceOnUse\"><circle class=\"s0\" cx=\"3\" cy=\"3\" r=\"2.6\"/></marker>\
<marker id=\"k1\" viewBox=\"0 0 6 6\" refX=\"3\" refY=\"3\" markerWidth=\"6\" markerHeight=\"6\" markerUnits=\"userSpaceOnUse\"><rect class=\"s1\" x=\"1\" y=\"1\" width=\"4\" height=\"4\"/></marker>\
<marker id=\"k2\" viewBox=\"0 0 6 6\" refX=\"3\" refY=\"3\" markerWidth=\"7\" markerHeight=\"7\" markerUnits=\"userSpaceOnUse\"><path class=\"s2\" d=\"M3 .5L5.6 5.2L.4 5.2Z\"/></marker>\
</defs></svg>\n";

fn plot(label: &str, lines: &[Line], modes: &[&str], scale: &Scale) -> String {
    let mut places: Vec<Place> = lines
        .iter()
        .flat_map(|line| line.1.keys().copied())
        .collect();
    places.sort_unstable();
    places.dedup();
    let step = (scale.width - LEFT - RIGHT) / places.len() as f64;
    let x = |index: usize| LEFT + (index as f64 + 0.5) * step;
    let (bottom, right) = (HEIGHT - BOTTOM, scale.width - RIGHT);
    let one = scale.y(1.0);
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{label}: {}\">\n\
         <rect class=\"beyond\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\n",
        scale.width,
        esc(&summary(lines)),
        right - LEFT,
        one - TOP,
    );
    out += &decades(scale);
    for (at, name) in ticks(&places, step) {
        out += &format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            bottom + 14.0,
            esc(&name)
        );
    }
    out += &format!(
        "\n<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">layer</text>\
         <text class=\"axis\" transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">error / limit</text>\n\
         <path class=\"one\" d=\"M{LEFT} {one:.1}H{right:.1}\"/><text class=\"one-label\" x=\"{:.1}\" y=\"{:.1}\">limit</text>\n",
        (LEFT + right) / 2.0,
        HEIGHT - 6.0,
        (TOP + bottom) / 2.0,
        LEFT + 4.0,
        one - 5.0,
    );
    for (mode, values) in lines {
        let index = modes.iter().position(|other| other == mode).unwrap_or(0) % 3;
        let mut path = String::new();
        let mut before = None;
        for (at, place) in places.iter().enumerate() {
            let Some(&value) = values.get(place) else {
                continue;
            };
            // A line joins neighbours only: a gap is nothing measured.
            let joined = before.is_some_and(|before| before + 1 == at);
            let command = if joined { 'L' } else { 'M' };
            path += &format!("{command}{:.1} {:.1}", x(at), scale.y(value));
            before = Some(at);
        }
        out += &format!("<path class=\"line s{index}\" d=\"{path}\"/>\n");
    }
    for (at, place) in places.iter().enumerate() {
        let values = lines
            .iter()
            .filter_map(|(mode, values)| Some((mode, values.get(place)?)));
        let values = values.map(|(mode, value)| format!("{mode} {}", ratio(*value)));
        let title = format!(
            "{}: {}",
            place.label(),
            values.collect::<Vec<_>>().join(", ")
        );
        out += &format!(
            "<rect class=\"hit\" x=\"{:.1}\" y=\"{TOP}\" width=\"{step:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            x(at) - step / 2.0,
            bottom - TOP,
            esc(&title)
        );
    }
    out + "\n</svg>"
}

/// The lines in words, for those who do not see them.
fn summary(lines: &[Line]) -> String {
    let parts = lines.iter().map(|(mode, values)| {
        let first = values.iter().find(|(_, ratio)| **ratio > 1.0);
        let worst = values.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let peak = worst.map_or(String::new(), |(place, value)| {
            format!("at most {} at {}", ratio(*value), place.label())
        });
        match first {
            Some((place, _)) => {
                format!("{mode} first beyond the limit at {}, {peak}", place.label())
            }
            None => format!("{mode} within the limit, {peak}"),
        }
    });
    format!(
        "error over limit by layer; {}",
        parts.collect::<Vec<_>>().join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gap_breaks_the_line() {
        let tensor = |layer: i64| json!({"mode": "isolated", "name": "x", "layer": layer, "ratio": 0.5, "pass": true});
        let other =
            json!({"mode": "accumulated", "name": "x", "layer": 1, "ratio": 0.5, "pass": true});
        let run = json!({"backend": "flex", "tensors": [tensor(0), other, tensor(2)]});
        let html = section(&[Run(&run)]).unwrap();
        let path = html
            .lines()
            .find(|line| line.starts_with("<path class=\"line s1\""))
            .unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(section(&[Run(&json!({}))]).is_none());
    }
}
