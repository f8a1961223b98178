//! Few rows: keys and values are read as they lie, slot by slot, and what is read next is on its way meanwhile.

use super::block::KEYS;
use crate::element::Element;
use crate::isa::{self, Lanes, add_weighted, dot};

/// The most rows.
pub(super) const MOST: usize = 4;
/// Slots at a time.
const AT_ONCE: usize = 4;

/// Writes to `scores` `[rows, KEYS]` the products of `q` `[rows, head_dim]`, [arranged](isa::arrange), and the keys
/// `k` of `keys` slots; asks for the values `v` of as many.
#[inline(always)]
pub(super) fn score<S: Lanes, E: Element>(
    lanes: S,
    [rows, keys, head_dim]: [usize; 3],
    q: &[f32],
    (k, k_stride): (&[E], usize),
    (v, v_stride): (&[E], usize),
    scores: &mut [f32],
) {
    for key in (0..keys).step_by(AT_ONCE) {
        let count = AT_ONCE.min(keys - key);
        isa::ask_for(v, [key..key + count, 0..head_dim], v_stride);
        let mut each = [0.0; AT_ONCE * MOST]; // [count, rows]
        dot(lanes, &k[key * k_stride..], k_stride, count, q, rows, head_dim, &mut each);
        for next in 0..count {
            for row in 0..rows {
                scores[row * KEYS + key + next] = each[next * rows + row];
            }
        }
    }
}

/// Adds to `sums` `[rows, head_dim]`, [arranged](isa::arrange), the product of `weights` `[rows, KEYS]` and the values
/// `v` of `keys` slots; asks for as many of the `next` keys.
#[inline(always)]
pub(super) fn add<S: Lanes, E: Element>(
    lanes: S,
    [rows, keys, head_dim]: [usize; 3],
    weights: &[f32],
    (v, v_stride): (&[E], usize),
    (next, k_stride): (&[E], usize),
    sums: &mut [f32],
) {
    for key in (0..keys).step_by(AT_ONCE) {
        let count = AT_ONCE.min(keys - key);
        isa::ask_for(next, [key..key + count, 0..head_dim], k_stride);
        let (factors, v) = ((&weights[key..], KEYS), (&v[key * v_stride..], v_stride));
        match (rows, count) {
            (1, AT_ONCE) => add_weighted::<S, E, 1, AT_ONCE>(lanes, head_dim, factors, v, sums),
            (2, AT_ONCE) => add_weighted::<S, E, 2, AT_ONCE>(lanes, head_dim, factors, v, sums),
            (3, AT_ONCE) => add_weighted::<S, E, 3, AT_ONCE>(lanes, head_dim, factors, v, sums),
            (MOST, AT_ONCE) => add_weighted::<S, E, MOST, AT_ONCE>(lanes, head_dim, factors, v, sums),
            _ => {
                for row in 0..rows {
                    for next in 0..count {
                        let factor = (&weights[row * KEYS + key + next..], KEYS);
                        let (v, sums) = ((&v.0[next * v_stride..], v_stride), &mut sums[row * head_dim..]);
                        add_weighted::<S, E, 1, 1>(lanes, head_dim, factor, v, sums);
                    }
                }
            }
        }
    }
}
