//! Many rows: keys are transposed into a panel that all rows are multiplied with.

use super::block::KEYS;
use crate::element::Element;
use crate::isa::{Lanes, product, transpose};

/// Writes to `scores` `[rows, KEYS]` the products of `q` `[rows, head_dim]` and the keys `k` of `keys` slots, by way of
/// `panel` `[head_dim, KEYS]`.
#[inline(always)]
pub(super) fn score<S: Lanes, E: Element>(
    lanes: S,
    [rows, keys, head_dim]: [usize; 3],
    q: &[f32],
    (k, stride): (&[E], usize),
    panel: &mut [f32],
    scores: &mut [f32],
) {
    transpose(lanes, [keys, head_dim], (k, stride), (panel, KEYS));
    scores.fill(0.0);
    product(lanes, [rows, head_dim, KEYS], (q, head_dim), (panel, KEYS), (scores, KEYS), &mut || {});
}

/// Adds to `sums` `[rows, head_dim]` the product of `weights` `[rows, KEYS]` and the values `v` of `keys` slots.
#[inline(always)]
pub(super) fn add<S: Lanes, E: Element>(
    lanes: S,
    [rows, keys, head_dim]: [usize; 3],
    weights: &[f32],
    (v, stride): (&[E], usize),
    sums: &mut [f32],
) {
    let whole = head_dim / S::LANES * S::LANES;
    product(lanes, [rows, keys, whole], (weights, KEYS), (v, stride), (sums, head_dim), &mut || {});
    for feature in whole..head_dim {
        for row in 0..rows {
            let terms = (0..keys).map(|key| weights[row * KEYS + key] * v[key * stride + feature].widen());
            sums[row * head_dim + feature] += terms.sum::<f32>();
        }
    }
}
