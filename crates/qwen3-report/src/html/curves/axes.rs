//! Where a value lies in a plot, and the axes' labels.

use maud::{Markup, html};

use crate::html::grid::Place;
use crate::html::svg::{BOTTOM, HEIGHT, TOP, beside, level};

/// The band above the plot for what is not finite.
const BAND: f64 = 26.0;
/// Decades below the limit that a plot shows at most: what is smaller lies on the axis.
const LOWEST: f64 = -5.0;
/// The room that a label of the horizontal axis takes, in pixels.
const LABEL: f64 = 28.0;

/// How values map to heights.
pub struct Scale {
    low: f64,
    high: f64,
    infinite: bool,
}

impl Scale {
    /// Whole decades around all the values and around the limit itself.
    pub fn new(values: impl Iterator<Item = f64> + Clone) -> Self {
        let logs = values.clone().filter(|value| *value > 0.0 && value.is_finite()).map(f64::log10);
        let low = logs.clone().fold(-1.0, f64::min).floor().max(LOWEST);
        let high = logs.fold(1.0, f64::max).ceil();
        let infinite = values.into_iter().any(|value| !value.is_finite());
        Self { low, high, infinite }
    }

    fn top(&self) -> f64 {
        TOP + if self.infinite { BAND } else { 0.0 }
    }

    /// The height at which an error over its limit is drawn.
    pub fn y(&self, ratio: f64) -> f64 {
        if !ratio.is_finite() {
            return TOP + 5.0;
        }
        let share = (ratio.log10().max(self.low) - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - self.top())
    }
}

/// The grid lines and their labels, powers of ten with one among them.
pub fn decades(scale: &Scale) -> Markup {
    let (low, high) = (scale.low as i64, scale.high as i64);
    let every = ((high - low) as u64).div_ceil(7).max(1) as i64;
    let name = |decade: i64| match decade {
        0 => "1".into(),
        1 => "10".into(),
        _ => format!("10{}", decade.to_string().chars().map(superscript).collect::<String>()),
    };
    html! {
        @for decade in (low..=high).filter(|decade| decade % every == 0) {
            @let y = scale.y(10_f64.powi(decade as i32));
            (level("rule", y))
            (beside(y, &name(decade)))
        }
        @if scale.infinite { (beside(scale.y(f64::INFINITY), "\u{221e}")) }
    }
}

fn superscript(c: char) -> char {
    match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        '0'..='9' => char::from_u32(0x2070 + u32::from(c) - u32::from('0')).unwrap_or(c),
        _ => c,
    }
}

/// Which depths have a label when they are `step` pixels apart: round layer numbers with room between them, and
/// both ends.
pub fn ticks(places: &[Place], step: f64) -> Vec<(usize, String)> {
    let room = |labels: usize| labels as f64 * step >= LABEL;
    let every =
        [1, 2, 4, 5, 10, 20, 25, 50, 100, 200, 500].into_iter().find(|&every| room(every)).unwrap_or(1000);
    let ends = places.iter().enumerate();
    let ends = ends.filter_map(|(at, place)| match place {
        Place::Before(0, _) => Some((at, "emb".to_owned())),
        Place::After(1, _) => Some((at, "logits".to_owned())),
        _ => None,
    });
    let mut ticks: Vec<(usize, String)> = ends.collect();
    for (at, place) in places.iter().enumerate() {
        let Place::Layer(layer) = *place else {
            continue;
        };
        let free = |(other, _): &(usize, String)| at.abs_diff(*other) as f64 * step >= LABEL;
        if layer % every == 0 && ticks.iter().all(free) {
            ticks.push((at, layer.to_string()));
        }
    }
    ticks.sort_unstable();
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_inside_the_plot() {
        let scale = Scale::new([0.0, 1e-12, 3.0, f64::INFINITY].into_iter());
        assert_eq!((scale.low, scale.high, scale.infinite), (LOWEST, 1.0, true));
        for ratio in [0.0, 1e-300, 1.0, 10.0, f64::INFINITY, f64::NAN] {
            assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(ratio)), "{ratio}");
        }
        assert!(scale.y(1.0) < scale.y(0.1) && scale.y(f64::INFINITY) < scale.y(10.0));
    }

    #[test]
    fn ticks_do_not_collide() {
        let mut places = vec![Place::Before(0, "embedding_output")];
        places.extend((0..94).map(Place::Layer));
        places.extend([Place::After(0, "final_norm_output"), Place::After(1, "logits")]);
        let ticks = ticks(&places, 3.0);
        let apart = |pair: &[(usize, String)]| (pair[1].0 - pair[0].0) as f64 * 3.0 >= LABEL;
        assert!(ticks.len() > 4 && ticks.windows(2).all(apart));
        assert_eq!(ticks.last().unwrap().1, "logits");
    }
}
