//! Where a value lies in a plot.

use super::Point;
use crate::html::svg::{BOTTOM, HEIGHT, TOP};

/// Where the first value lies, away from the edge so that its marker is whole; in per cent.
const EDGE: f64 = 6.0;

/// Where values lie.
pub struct Scale {
    /// The places on the horizontal axis that have a value, in order.
    pub xs: Vec<usize>,
    /// The distance of grid lines.
    pub step: f64,
    /// The value at the upper edge.
    pub top: f64,
}

impl Scale {
    /// Around all the points.
    pub fn new<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Self {
        let mut xs: Vec<usize> = points.clone().map(|point| point.x).collect();
        xs.sort_unstable();
        xs.dedup();
        let highest = |point: &Point| point.spread.map_or(point.y, |spread| spread[1].max(point.y));
        let highest = points.map(highest).filter(|y| y.is_finite()).fold(0.0, f64::max);
        let step = step(highest);
        Self { xs, step, top: (highest / step).ceil().max(1.0) * step }
    }

    /// In per cent of the area.
    pub fn x(&self, x: usize) -> f64 {
        let log = |x: usize| (x.max(1) as f64).log2();
        let (low, high) = (self.xs.first().map_or(0.0, |x| log(*x)), self.xs.last().map_or(0.0, |x| log(*x)));
        let share = if high > low { (log(x) - low) / (high - low) } else { 0.5 };
        EDGE + share * (100.0 - 2.0 * EDGE)
    }

    /// In pixels from above.
    pub fn y(&self, y: f64) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(usize, f64)]) -> Vec<Point> {
        let point = |(x, y): &(usize, f64)| Point { x: *x, y: *y, spread: None, title: String::new() };
        values.iter().map(point).collect()
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
    fn grid_lines_are_round_and_few() {
        for (highest, expected) in
            [(4.9, 1.0), (8.0, 2.0), (100.0, 20.0), (336.0, 100.0), (0.0, 1.0), (f64::NAN, 1.0)]
        {
            assert!((step(highest) - expected).abs() < 1e-9, "{highest}: {}", step(highest));
        }
    }
}
