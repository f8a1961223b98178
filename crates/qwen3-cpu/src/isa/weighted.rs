//! Weighted sums of a few rows that are read in one direction.

use super::{Lanes, extent};
use crate::element::Element;

/// Adds to `sums` `[S, columns]`, [arranged](super::arrange) for `E`, the product of `weights` `[S, N]`, `stride` from a
/// row to the next, and `rows` `[N, columns]`, with its own.
///
/// # Panics
/// When something is too short.
#[inline(always)]
pub(crate) fn add_weighted<L: Lanes, E: Element, const S: usize, const N: usize>(
    lanes: L,
    columns: usize,
    (weights, weights_stride): (&[f32], usize),
    (rows, stride): (&[E], usize),
    sums: &mut [f32],
) {
    assert!(rows.len() >= extent(N, stride, columns) && sums.len() >= extent(S, columns, columns));
    let mut factors = [[lanes.splat(0.0); N]; S];
    for s in 0..S {
        for n in 0..N {
            factors[s][n] = lanes.splat(weights[s * weights_stride + n]);
        }
    }
    let mut at = 0;
    while at + 2 * L::LANES <= columns {
        let mut values = [[lanes.splat(0.0); 2]; N];
        for n in 0..N {
            // SAFETY: `at + 2 * LANES <= columns`, and there are as many rows and sums as was just seen.
            values[n] = unsafe { lanes.load_two(rows.as_ptr().add(n * stride + at)) };
        }
        for part in 0..2 {
            for s in 0..S {
                // SAFETY: as before.
                unsafe {
                    let to = sums.as_mut_ptr().add(s * columns + at + part * L::LANES);
                    let mut sum = lanes.load_at(to.cast_const());
                    for n in 0..N {
                        sum = lanes.mul_add(factors[s][n], values[n][part], sum);
                    }
                    lanes.store_at(to, sum);
                }
            }
        }
        at += 2 * L::LANES;
    }
    for column in at..columns {
        for s in 0..S {
            let terms = (0..N).map(|n| weights[s * weights_stride + n] * rows[n * stride + column].widen());
            sums[s * columns + column] += terms.sum::<f32>();
        }
    }
}
