//! Which tokens are kept: the logits of all others become negative infinity. Each function follows the
//! class of `generation/logits_process.py` (Transformers 5.23) that it names. Logits are neither NaN nor
//! positive infinity.

use std::cmp::Ordering;

/// Selection begins with this many tokens when probabilities are to be added up from the top.
const FIRST_GUESS: usize = 256;

/// `TopKLogitsWarper`: keeps the `k` largest, and those equal to the smallest of them.
pub(crate) fn top_k(logits: &mut [f32], k: usize) {
    let Some(smallest) = kth_largest(logits, k) else {
        return;
    };
    for logit in logits {
        if *logit < smallest {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The `k`th largest of `values`, counted from 1; `None` when there are no more than `k`.
///
/// One pass over the values that collects those above the best bound so far, `2 k` at most.
fn kth_largest(values: &[f32], k: usize) -> Option<f32> {
    if k == 0 || k >= values.len() {
        return None;
    }
    let mut best = Vec::with_capacity(2 * k);
    let mut bound = f32::NEG_INFINITY;
    for &value in values {
        if best.len() < k || value > bound {
            best.push(value);
            if best.len() == 2 * k {
                bound = *best.select_nth_unstable_by(k - 1, descending).1;
                best.truncate(k);
            }
        }
    }
    Some(*best.select_nth_unstable_by(k - 1, descending).1)
}

/// The tokens that are not out yet, as keys whose order is that of the logits and, of equal ones, of the
/// ids: integers are selected and sorted several times faster than ids by their logits.
pub(crate) struct Remaining(Vec<u64>);

impl Remaining {
    pub(crate) fn new(logits: &[f32]) -> Self {
        let kept = logits.iter().zip(0u64..).filter(|(logit, _)| **logit > f32::NEG_INFINITY);
        let key = |(logit, id): (&f32, u64)| {
            // Negative zero is no smaller than zero.
            let bits = (logit + 0.0).to_bits();
            let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            u64::from(ordered) << 32 | id
        };
        Self(kept.map(key).collect())
    }

    /// `TopPLogitsWarper`: keeps the smallest set of likeliest tokens that has probability `p`, and one
    /// at the least. Of equal tokens at the edge those with the larger ids stay, which is what a stable
    /// ascending sort makes of them; the order of equal tokens in `torch.sort` is not defined.
    pub(crate) fn top_p(&mut self, logits: &mut [f32], p: f64) {
        let keys = &mut self.0;
        let Some((largest, total)) = softmax_sum(keys, logits) else {
            return;
        };
        // The whole vocabulary is sorted only when it has to be.
        let (mut sorted, mut kept) = (0, 0);
        let mut above = 0.0;
        'all: while sorted < keys.len() {
            let next = (sorted * 8).max(FIRST_GUESS).min(keys.len());
            if next < keys.len() {
                keys[sorted..].select_nth_unstable_by(next - sorted, |a, b| b.cmp(a));
            }
            keys[sorted..next].sort_unstable_by(|a, b| b.cmp(a));
            for &key in &keys[sorted..next] {
                // Transformers adds up from the least likely, this token included, in float32.
                let below = ((total - above) / total) as f32;
                if kept > 0 && below <= (1.0 - p) as f32 {
                    break 'all;
                }
                above += weight(logits[id(key)], largest);
                kept += 1;
            }
            sorted = next;
        }
        for key in keys.drain(kept..) {
            logits[id(key)] = f32::NEG_INFINITY;
        }
    }

    /// `MinPLogitsWarper`: keeps tokens with at least `p` times the probability of the likeliest.
    pub(crate) fn min_p(&mut self, logits: &mut [f32], p: f64) {
        let Some((largest, total)) = softmax_sum(&self.0, logits) else {
            return;
        };
        let least = p as f32 * (1.0 / total) as f32;
        self.0.retain(|&key| {
            let logit = &mut logits[id(key)];
            let stays = *logit == largest || (weight(*logit, largest) / total) as f32 >= least;
            if !stays {
                *logit = f32::NEG_INFINITY;
            }
            stays
        });
    }
}

fn id(key: u64) -> usize {
    key as u32 as usize
}

fn weight(logit: f32, largest: f32) -> f64 {
    f64::from((logit - largest).exp())
}

/// The largest of these logits, and the sum of all weights relative to it.
fn softmax_sum(keys: &[u64], logits: &[f32]) -> Option<(f32, f64)> {
    let largest = logits[id(*keys.iter().max()?)];
    let total = keys.iter().map(|&key| weight(logits[id(key)], largest)).sum();
    Some((largest, total))
}

fn descending(a: &f32, b: &f32) -> Ordering {
    b.partial_cmp(a).expect("a logit is not NaN")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn top_p(logits: &mut [f32], p: f64) {
        Remaining::new(logits).top_p(logits, p);
    }

    fn min_p(logits: &mut [f32], p: f64) {
        Remaining::new(logits).min_p(logits, p);
    }

    const OUT: f32 = f32::NEG_INFINITY;

    #[test]
    fn ties_at_the_edge() {
        let mut logits = [1.0, 3.0, 2.0, 2.0, 0.0];
        top_k(&mut logits, 2);
        assert_eq!(logits, [OUT, 3.0, 2.0, 2.0, OUT]);
        let mut logits = [1.0; 4];
        top_p(&mut logits, 0.5);
        assert_eq!(logits, [OUT, OUT, 1.0, 1.0]);
        let mut logits = [1.0; 4];
        min_p(&mut logits, 1.0);
        assert_eq!(logits, [1.0; 4]);
    }

    #[test]
    fn one_token_stays() {
        let mut logits = [0.5, 0.0, 2.0];
        top_p(&mut logits, 0.0);
        assert_eq!(logits, [OUT, OUT, 2.0]);
        let mut logits = [OUT, OUT];
        top_p(&mut logits, 0.5);
        min_p(&mut logits, 0.5);
        top_k(&mut logits, 1);
        assert_eq!(logits, [OUT, OUT]);
    }

    /// As in the source: ascending stable sort, cumulative sum.
    fn top_p_sorted(logits: &mut [f32], p: f64) {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let largest = logits[order[order.len() - 1]];
        let weights: Vec<f64> = order.iter().map(|&i| f64::from((logits[i] - largest).exp())).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        for (at, &id) in order.iter().enumerate() {
            sum += weights[at] / total;
            if sum as f32 <= (1.0 - p) as f32 && at + 1 < order.len() {
                logits[id] = OUT;
            }
        }
    }

    proptest! {
        #[test]
        fn top_k_is_the_sorted_one(values in prop::collection::vec(-3i8..4, 1..80), k in 0usize..90) {
            let mut logits: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            let mut sorted = logits.clone();
            sorted.sort_by(descending);
            let bound = if k == 0 { OUT } else { sorted[k.min(sorted.len()) - 1] };
            let expected: Vec<f32> = logits.iter().map(|&x| if x < bound { OUT } else { x }).collect();
            top_k(&mut logits, k);
            prop_assert_eq!(logits, expected);
        }

        #[test]
        fn top_p_is_the_sorted_one(
            logits in prop::collection::vec(-8.0f32..8.0, 1..2000),
            p in 0.0f64..1.0,
        ) {
            let (mut fast, mut slow) = (logits.clone(), logits);
            top_p(&mut fast, p);
            top_p_sorted(&mut slow, p);
            let differing = fast.iter().zip(&slow).filter(|(a, b)| a != b).count();
            // Both sums are rounded to float32 before the comparison.
            prop_assert!(differing <= 1);
        }
    }
}
