//! How far a tensor may be off, where tokens of very different size are not held to one limit.

use crate::metrics::{self, Floor, Limit};
use crate::size::Size;
use qwen3_config::Precision;

/// A token is massive when its largest value is so many times the median token's.
///
/// In the real models the first token's residuals are a thousand times the others' from an early layer on.
const MASSIVE: f64 = 16.0;
/// The rms of values is that of few when no more than so many of them, as large as the largest, would have it.
const FEW: f64 = 4.0;

/// The limits of a tensor: one, or one for the massive tokens and one for the others.
#[derive(Clone, Debug)]
pub struct TensorLimit {
    /// Values of a token, which lie side by side; all of them when tokens are not told apart.
    width: usize,
    groups: Vec<Group>,
}

/// Tokens that are judged together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Their places among the tensor's tokens, ascending.
    pub(crate) tokens: Vec<usize>,
    pub(crate) floor: Floor,
    pub(crate) limit: Limit,
    /// The root of the mean square of the expected values.
    rms: f64,
}

impl TensorLimit {
    /// For `expected` values of `tokens` tokens, one after the other; `floor` gives the noise floor of some of
    /// them, whose expected values are of the given size.
    pub(crate) fn new(
        expected: &[f64],
        tokens: usize,
        dtype: Precision,
        floor: impl Fn(&[usize], Size) -> Floor,
    ) -> Self {
        let width = (expected.len() / tokens.max(1)).max(1);
        let groups = groups(expected, width).into_iter().enumerate().map(|(group, tokens)| {
            let values: Vec<f64> =
                tokens.iter().flat_map(|token| row(expected, width, *token)).copied().collect();
            let size = Size::of(&values);
            let floor = floor(&tokens, size);
            let mut limit = metrics::limit_of(floor, size, dtype);
            if group > 0 || size.elements(values.len()) < FEW {
                // Errors of few values do not average out: where these pass, so does their rms.
                limit.rms = limit.rms.max(limit.max_abs * size.rms / size.largest);
            }
            Group { tokens, floor, limit, rms: size.rms }
        });
        Self { width, groups: groups.collect() }
    }

    /// The same with every limit `factor` times as wide.
    pub fn times(mut self, factor: f64) -> Self {
        for Group { limit, .. } in &mut self.groups {
            *limit = Limit { max_abs: limit.max_abs * factor, rms: limit.rms * factor };
        }
        self
    }

    /// The smallest rms error that is beyond its limit, as a share of the expected values' rms: in the tokens where
    /// that share is largest. `None` where nothing but zeros is expected.
    pub fn sensitivity(&self) -> Option<f64> {
        let shares = self.groups.iter().map(|group| group.limit.rms / group.rms);
        shares.reduce(f64::max).filter(|share| share.is_finite())
    }

    /// Are there tokens that are judged apart for their size?
    pub fn has_massive_tokens(&self) -> bool {
        self.groups.len() > 1
    }

    /// The widest limit of a largest error.
    pub fn max_abs(&self) -> f64 {
        self.groups.iter().map(|group| group.limit.max_abs).fold(0.0, f64::max)
    }

    /// Error over limit, the worst of all groups and of largest and rms error; infinite when an error is not finite.
    ///
    /// # Panics
    /// When the tensors are not as long as the one that the limits are for.
    pub fn ratio(&self, observed: &[f64], expected: &[f64]) -> f64 {
        let ratios = self.groups.iter().map(|group| group.ratio(self.width, observed, expected));
        ratios.fold(0.0, f64::max)
    }

    /// The group that is furthest beyond its limit, or closest to it, the first of equals; and the places of its
    /// values.
    pub(crate) fn worst(&self, observed: &[f64], expected: &[f64]) -> (&Group, impl Iterator<Item = usize>) {
        let ratios = self.groups.iter().map(|group| (group, group.ratio(self.width, observed, expected)));
        let worst = ratios.reduce(|worst, next| if next.1 > worst.1 { next } else { worst });
        let (group, _) = worst.expect("there is a group");
        let width = self.width;
        (group, group.tokens.iter().flat_map(move |token| token * width..(token + 1) * width))
    }

    /// What is to be said of the group, when there is another.
    pub(crate) fn note(&self, group: &Group) -> Option<String> {
        let [others, massive] = &self.groups[..] else {
            return None;
        };
        let (count, which) = (massive.tokens.len(), std::ptr::eq(group, others));
        let which = if which { "the others, the worse here" } else { "the worse here" };
        Some(format!("massive tokens are judged apart: {count}, {which}"))
    }
}

impl Group {
    fn ratio(&self, width: usize, observed: &[f64], expected: &[f64]) -> f64 {
        // Nothing compared is no pass.
        let (mut largest, mut squares, mut count) = (0.0_f64, 0.0, 0_usize);
        for token in &self.tokens {
            for (o, e) in row(observed, width, *token).iter().zip(row(expected, width, *token)) {
                let error = (o - e).abs();
                if !error.is_finite() {
                    return f64::INFINITY;
                }
                largest = largest.max(error);
                squares += error * error;
                count += 1;
            }
        }
        self.limit.ratio(largest, (squares / count as f64).sqrt())
    }
}

fn row(values: &[f64], width: usize, token: usize) -> &[f64] {
    &values[token * width..(token + 1) * width]
}

/// The tokens that are not massive, then those that are, if any.
fn groups(values: &[f64], width: usize) -> Vec<Vec<usize>> {
    let sizes: Vec<f64> = values.chunks(width).map(|row| Size::of(row).largest).collect();
    let mut sorted = sizes.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
    let (massive, others): (Vec<_>, Vec<_>) =
        (0..sizes.len()).partition(|token| median > 0.0 && sizes[*token] > MASSIVE * median);
    if massive.is_empty() { vec![others] } else { vec![others, massive] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(expected: &[f64], tokens: usize) -> TensorLimit {
        let floor =
            |_: &[usize], size: Size| Floor { max_abs: 1e-6 * size.largest, rms: 1e-6 * size.largest };
        TensorLimit::new(expected, tokens, Precision::F32, floor)
    }

    #[test]
    fn a_massive_token_neither_hides_nor_causes_a_failure() {
        let expected = [10_000.0, -4_000.0, 1.0, -2.0, 3.0, 0.5, 2.0, 1.0];
        let limit = limit(&expected, 4);
        assert_eq!(
            limit.groups.iter().map(|group| group.tokens.clone()).collect::<Vec<_>>(),
            [vec![1, 2, 3], vec![0]]
        );
        let off = |index: usize, by: f64| {
            let mut observed = expected;
            observed[index] += by;
            limit.ratio(&observed, &expected)
        };
        // 1e-3 is nothing beside 10,000, and a thousand limits beside 3.
        assert!(off(0, 1e-3) < 0.1);
        assert!(off(3, 1e-3) > 50.0);
        assert!(off(3, f64::NAN).is_infinite());
    }

    #[test]
    fn an_error_of_the_one_value_that_holds_a_massive_token_is_judged_once() {
        let mut expected = [1.0; 4 * 32];
        expected[5] = 7_144.0;
        let floor = |tokens: &[usize], _: Size| {
            let massive = tokens == [0];
            Floor { max_abs: if massive { 5e-4 } else { 1e-6 }, rms: if massive { 9e-5 } else { 4e-7 } }
        };
        let limit = TensorLimit::new(&expected, 4, Precision::F32, floor);
        let off = |by: f64| {
            let mut observed = expected;
            observed[5] += by;
            limit.ratio(&observed, &expected)
        };
        let share = off(1e-3) / 1e-3;
        assert!((share * limit.max_abs() - 1.0).abs() < 1e-2, "{share}");
        // One value that holds all there is, of whatever token.
        let limit = TensorLimit::new(&expected[..32], 1, Precision::F32, |_, _| floor(&[0], Size::of(&[])));
        let mut observed = expected;
        observed[5] += 1e-3;
        assert!((limit.ratio(&observed[..32], &expected[..32]) / share / 1e-3 - 1.0).abs() < 1e-2);
    }

    #[test]
    fn tokens_of_about_one_size_have_one_limit() {
        let expected = [1.0, -0.1, 15.0, 2.0, 0.0, 0.0, 1.5, 3.0];
        assert_eq!(limit(&expected, 4).groups.len(), 1);
        assert_eq!(limit(&expected, 1).groups.len(), 1);
        assert_eq!(limit(&[0.0; 8], 4).groups.len(), 1);
    }
}
