//! Lines over a logarithmic axis, as inline SVG: measured values with their spread, and limits as dashed lines.

use maud::{Markup, html};

use super::svg::{BOTTOM, HEIGHT, LEFT, RIGHT, TOP, axis_names, keys, label, one};

/// Room for as many plots side by side as a page has.
const WIDTH: f64 = 530.0;
/// How close two labels of the horizontal axis may be.
const LABEL: f64 = 34.0;

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
    /// How it is drawn: `s0 solid`, `s0 limit`.
    pub class: String,
    /// By the horizontal axis.
    pub points: Vec<Point>,
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

/// Where values lie.
struct Scale {
    xs: Vec<usize>,
    step: f64,
    top: f64,
}

impl Scale {
    fn new<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Self {
        let mut xs: Vec<usize> = points.clone().map(|point| point.x).collect();
        xs.sort_unstable();
        xs.dedup();
        let highest = |point: &Point| point.spread.map_or(point.y, |spread| spread[1].max(point.y));
        let highest = points.map(highest).filter(|y| y.is_finite()).fold(0.0, f64::max);
        let step = step(highest);
        Self { xs, step, top: (highest / step).ceil().max(1.0) * step }
    }

    fn x(&self, x: usize) -> f64 {
        let log = |x: usize| (x.max(1) as f64).log2();
        let (low, high) = (self.xs.first().map_or(0.0, |x| log(*x)), self.xs.last().map_or(0.0, |x| log(*x)));
        let share = if high > low { (log(x) - low) / (high - low) } else { 0.5 };
        // Away from both edges, so that a marker is whole.
        LEFT + 24.0 + share * (WIDTH - LEFT - RIGHT - 48.0)
    }

    fn y(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (y / self.top).clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }
}

/// A round distance of grid lines, of which about five reach `highest`.
fn step(highest: f64) -> f64 {
    if highest.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return 1.0;
    }
    let power = 10_f64.powf((highest / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    steps.into_iter().find(|step| highest / step <= 5.5).unwrap_or(10.0 * power)
}

/// The plot with its title and legend; `None` when it has no point.
pub fn figure(plot: &Plot) -> Option<Markup> {
    let finite = |point: &&Point| point.y.is_finite();
    let points = plot.lines.iter().flat_map(|line| &line.points).filter(finite);
    points.clone().next()?;
    let scale = Scale::new(points);
    let class = |line: &Line| format!("line {}", line.class);
    Some(html! {
        figure.card {
            figcaption { b { (plot.title) } }
            (keys(plot.lines.iter().map(|line| (class(line), line.name.as_str()))))
            svg.plot viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(summary(plot)) {
                (grid(&scale))
                (axis_names(WIDTH, plot.x, plot.y))
                @for line in &plot.lines {
                    path class=(class(line)) d=(path(line, &scale)) {}
                    @for point in line.points.iter().filter(finite) { (mark(line, point, &scale)) }
                }
            }
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
            path.rule d=(format_args!("M{LEFT} {y:.1}H{:.1}", WIDTH - RIGHT)) {}
            (label("tick", [LEFT - 6.0, y + 3.5], "end", &format!("{value:.decimals$}")))
        }
        @for x in &scale.xs {
            @if fits(scale.x(*x)) {
                (label("tick", [scale.x(*x), HEIGHT - BOTTOM + 14.0], "middle", &x.to_string()))
            }
        }
    }
}

fn path(line: &Line, scale: &Scale) -> String {
    let mut points: Vec<&Point> = line.points.iter().filter(|point| point.y.is_finite()).collect();
    points.sort_by_key(|point| point.x);
    let command = |at| if at == 0 { 'M' } else { 'L' };
    let point = |(at, point): (usize, &&Point)| {
        format!("{}{:.1} {:.1}", command(at), scale.x(point.x), scale.y(point.y))
    };
    points.iter().enumerate().map(point).collect()
}

/// The spread of a point, and what shows its numbers.
fn mark(line: &Line, point: &Point, scale: &Scale) -> Markup {
    let x = scale.x(point.x);
    html! {
        @if let Some([least, greatest]) = point.spread {
            @let ends = format!("M{x:.1} {:.1}V{:.1}", scale.y(least), scale.y(greatest));
            path class={ "line spread " (line.class) } d=(ends) {}
        }
        circle.hit cx=(one(x)) cy=(one(scale.y(point.y))) r="8" { title { (line.name) ": " (point.title) } }
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
        let line = Line { name: "a <b>".into(), class: "s0 solid".into(), points: points(values) };
        let plot = Plot { title: "Speed".into(), x: "tokens", y: "tok/s", lines: vec![line] };
        Some(figure(&plot)?.into_string())
    }

    #[test]
    fn each_doubling_is_as_far() {
        let points = points(&[(0, 0.0), (1, 1.0), (2, 2.0), (4, 4.5)]);
        let scale = Scale::new(points.iter());
        assert_eq!(scale.x(0), scale.x(1));
        assert!((scale.x(4) - scale.x(2) - (scale.x(2) - scale.x(1))).abs() < 1e-9);
        assert_eq!((scale.step, scale.top), (1.0, 5.0));
        assert!(scale.y(0.0) > scale.y(1.0) && scale.y(1.0) > scale.y(4.5));
    }

    #[test]
    fn everything_stays_inside_the_plot() {
        for values in [&[(7, 0.0)][..], &[(1, 1e-9), (1_000_000, 3e12)], &[(3, f64::NAN), (4, 2.0)]] {
            let points = points(values);
            let scale = Scale::new(points.iter());
            for point in points.iter().filter(|point| point.y.is_finite()) {
                assert!((LEFT..=WIDTH - RIGHT).contains(&scale.x(point.x)));
                assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(point.y)));
            }
            let html = plot(values).unwrap();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }

    #[test]
    fn grid_lines_are_round_and_few() {
        for (highest, expected) in
            [(4.9, 1.0), (8.0, 2.0), (100.0, 20.0), (336.0, 100.0), (0.0, 1.0), (f64::NAN, 1.0)]
        {
            assert!((step(highest) - expected).abs() < 1e-9, "{highest}: {}", step(highest));
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
