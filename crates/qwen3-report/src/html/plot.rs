//! Lines over a logarithmic axis, as inline SVG: measured values with their spread, and limits as dashed lines.

mod scale;

use maud::{Markup, html};

use self::scale::Scale;
use super::svg::{self, Key, NARROW, axis_names, below, beside, keys, level, marker, one, per_cent};

/// How close two labels of the horizontal axis may be, in per cent of the area where it is narrow.
const LABEL: f64 = 100.0 * 36.0 / NARROW;

/// A plot of lines from 0 upwards.
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis, on which each doubling is as far; with its unit.
    pub x: &'static str,
    /// The vertical axis, from 0; with its unit.
    pub y: &'static str,
    /// In the order of the legend.
    pub lines: Vec<Line>,
}

/// A line and what it is called.
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Its colour and its marker's shape, below [`STYLES`](svg::STYLES).
    pub style: usize,
    /// How else it is drawn.
    pub look: Look,
    /// By the horizontal axis.
    pub points: Vec<Point>,
}

/// What tells lines of one style apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Measured, with markers.
    Solid,
    /// Measured of what is wrong: pale.
    Wrong,
    /// A limit: dashed, without markers.
    Limit,
}

impl Line {
    fn class(&self) -> String {
        let look = match self.look {
            Look::Solid => "solid",
            Look::Wrong => "solid wrong",
            Look::Limit => "limit",
        };
        format!("line s{} {look}", self.style)
    }

    fn key(&self) -> Key<'_> {
        (self.class(), (!self.is_limit()).then_some(self.style), &self.name)
    }

    fn is_limit(&self) -> bool {
        self.look == Look::Limit
    }
}

/// A value.
pub struct Point {
    /// At least 1, else it lies where 1 does.
    pub x: usize,
    /// What is not finite is left out.
    pub y: f64,
    /// The least and the greatest sample, where there are samples.
    pub spread: Option<[f64; 2]>,
    /// What it says when it is pointed at.
    pub title: String,
}

/// The plot with its title and legend; `None` when it has no point.
pub fn figure(plot: &Plot) -> Option<Markup> {
    let finite = |point: &&Point| point.y.is_finite();
    let points = plot.lines.iter().flat_map(|line| &line.points).filter(finite);
    points.clone().next()?;
    let scale = Scale::new(points);
    let body = html! {
        (grid(&scale))
        (axis_names(plot.x, plot.y))
        (svg::stretched(&html! {
            @for line in &plot.lines { path class=(line.class()) d=(path(line, &scale)) {} }
        }))
        @for line in &plot.lines {
            @for point in line.points.iter().filter(finite) { (mark(line, point, &scale)) }
        }
    };
    Some(html! {
        figure.card {
            figcaption { b { (plot.title) } }
            (keys(plot.lines.iter().map(Line::key)))
            (svg::plot(&summary(plot), &body))
        }
    })
}

fn grid(scale: &Scale) -> Markup {
    let decimals = (-scale.step.log10().floor()).clamp(0.0, 6.0) as usize;
    let lines = (scale.top / scale.step).round() as usize;
    let mut free = f64::NEG_INFINITY;
    let mut fits = |x: f64| {
        let fits = x >= free;
        if fits {
            free = x + LABEL;
        }
        fits
    };
    html! {
        @for at in 0..=lines {
            @let value = at as f64 * scale.step;
            @let y = scale.y(value);
            (level("rule", y))
            (beside(y, &format!("{value:.decimals$}")))
        }
        @for x in &scale.xs {
            @if fits(scale.x(*x)) { (below("tick", scale.x(*x), &x.to_string())) }
        }
    }
}

fn path(line: &Line, scale: &Scale) -> String {
    let mut points: Vec<&Point> = line.points.iter().filter(|point| point.y.is_finite()).collect();
    points.sort_by_key(|point| point.x);
    let command = |at| if at == 0 { 'M' } else { 'L' };
    let point = |(at, point): (usize, &&Point)| {
        format!("{}{:.2} {:.1}", command(at), scale.x(point.x), scale.y(point.y))
    };
    points.iter().enumerate().map(point).collect()
}

/// A point's marker, its spread, and what shows its numbers.
fn mark(line: &Line, point: &Point, scale: &Scale) -> Markup {
    let (x, y) = (scale.x(point.x), scale.y(point.y));
    html! {
        @if let Some([least, greatest]) = point.spread {
            @let x = per_cent(x);
            line class={ (line.class()) " spread" } x1=(x) x2=(x) y1=(one(scale.y(least))) y2=(one(scale.y(greatest))) {}
        }
        @if !line.is_limit() { (marker(line.style, if line.look == Look::Wrong { " wrong" } else { "" }, x, y)) }
        circle.hit cx=(per_cent(x)) cy=(one(y)) r="8" { title { (line.name) ": " (point.title) } }
    }
}

/// The lines in words, for those who do not see them.
fn summary(plot: &Plot) -> String {
    let lines = plot.lines.iter().map(|line| {
        let points = line.points.iter().filter(|point| point.y.is_finite());
        let points: Vec<&str> = points.map(|point| point.title.as_str()).collect();
        format!("{}: {}", line.name, points.join(", "))
    });
    format!("{}; {}", plot.title, lines.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::svg::{BOTTOM, HEIGHT, TOP};

    fn points(values: &[(usize, f64)]) -> Vec<Point> {
        let point = |(x, y): &(usize, f64)| Point {
            x: *x,
            y: *y,
            spread: Some([*y, *y]),
            title: format!("{y} at {x}"),
        };
        values.iter().map(point).collect()
    }

    fn plot(values: &[(usize, f64)]) -> Option<String> {
        let line = Line { name: "a <b>".into(), style: 0, look: Look::Solid, points: points(values) };
        let plot = Plot { title: "Speed".into(), x: "tokens", y: "tok/s", lines: vec![line] };
        Some(figure(&plot)?.into_string())
    }

    #[test]
    fn everything_stays_inside_the_plot() {
        for values in [&[(7, 0.0)][..], &[(1, 1e-9), (1_000_000, 3e12)], &[(3, f64::NAN), (4, 2.0)]] {
            let points = points(values);
            let scale = Scale::new(points.iter());
            for point in points.iter().filter(|point| point.y.is_finite()) {
                assert!((0.0..=100.0).contains(&scale.x(point.x)));
                assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(point.y)));
            }
            let html = plot(values).unwrap();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }

    #[test]
    fn a_plot_has_its_title_axes_legend_and_numbers() {
        let html = plot(&[(128, 10.0), (512, 20.0)]).unwrap();
        for part in [
            "<b>Speed</b>",
            ">tokens</text>",
            ">tok/s</text>",
            "</svg> a &lt;b&gt;</span>",
            "<title>a &lt;b&gt;: 10 at 128</title>",
            ">512</text>",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        assert_eq!(plot(&[(1, f64::NAN)]), None);
        assert_eq!(plot(&[]), None);
    }
}
