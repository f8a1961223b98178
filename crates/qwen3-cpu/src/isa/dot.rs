//! Dot products of a few rows with a few vectors, lanes along the rows: each weight is read once.

use super::{Lanes, extent};
use crate::element::Element;

/// Vectors for which reading the rows takes longer than multiplying.
const FEW: usize = 4;
/// Bytes of a row from which on the next one is too far away to be read beside it.
const LONG: usize = 1024;

/// Writes `result[row * vectors + vector]`, the dot product of row `row` of `rows` (`stride` elements from one to the
/// next, any number of them) with `vectors` rows of f32 of `x`, each [arranged](super::arrange) for `W`; all have
/// `depth` elements.
///
/// # Panics
/// When something is too short.
#[inline(always)]
pub(crate) fn dot<S: Lanes, W: Element>(
    lanes: S,
    rows: &[W],
    stride: usize,
    count: usize,
    x: &[f32],
    vectors: usize,
    depth: usize,
    result: &mut [f32],
) {
    if count == 0 || vectors == 0 {
        return;
    }
    assert!(rows.len() >= extent(count, stride, depth), "{} elements for {count} rows", rows.len());
    assert!(x.len() >= extent(vectors, depth, depth) && result.len() >= extent(count, vectors, vectors));
    let mut vector = 0;
    while vector < vectors {
        // One row after the other where memory is what takes the time: it is read fastest in one direction.
        let most = match vectors {
            1..=FEW if depth * size_of::<W>() >= LONG => 1,
            1..=2 => 4,
            _ if S::WIDE => 4,
            _ => 3,
        };
        let left = vectors - vector;
        let width = if left == 5 { 3 } else { left.min(4) };
        let mut row = 0;
        // The vectors stay in the first cache meanwhile.
        while row < count {
            let height = if count - row >= most { most } else { 1 };
            // SAFETY: `height` rows from `row` and `width` vectors from `vector` exist, as seen above.
            unsafe {
                let (w, x) = (rows.as_ptr().add(row * stride), x.as_ptr().add(vector * depth));
                let to = &mut result[row * vectors + vector..];
                match (height, width) {
                    (4, 1) => block::<S, W, 4, 1, 2>(lanes, w, stride, x, depth, to, vectors),
                    (4, 2) => block::<S, W, 4, 2, 1>(lanes, w, stride, x, depth, to, vectors),
                    (4, 3) => block::<S, W, 4, 3, 1>(lanes, w, stride, x, depth, to, vectors),
                    (4, _) => block::<S, W, 4, 4, 1>(lanes, w, stride, x, depth, to, vectors),
                    (3, 1) => block::<S, W, 3, 1, 2>(lanes, w, stride, x, depth, to, vectors),
                    (3, 2) => block::<S, W, 3, 2, 1>(lanes, w, stride, x, depth, to, vectors),
                    (3, 3) => block::<S, W, 3, 3, 1>(lanes, w, stride, x, depth, to, vectors),
                    (3, _) => block::<S, W, 3, 4, 1>(lanes, w, stride, x, depth, to, vectors),
                    (_, 1) => block::<S, W, 1, 1, 8>(lanes, w, stride, x, depth, to, vectors),
                    (_, 2) => block::<S, W, 1, 2, 4>(lanes, w, stride, x, depth, to, vectors),
                    (_, 3) => block::<S, W, 1, 3, 2>(lanes, w, stride, x, depth, to, vectors),
                    _ => block::<S, W, 1, 4, 2>(lanes, w, stride, x, depth, to, vectors),
                }
            }
            row += height;
        }
        vector += width;
    }
}

/// `R` rows, `T` vectors, `U` sums of each pair so that no sum waits for itself.
///
/// # Safety
/// `w` has `R` rows of `depth` elements and `x` `T` vectors.
#[inline(always)]
unsafe fn block<S: Lanes, W: Element, const R: usize, const T: usize, const U: usize>(
    lanes: S,
    w: *const W,
    stride: usize,
    x: *const f32,
    depth: usize,
    result: &mut [f32],
    vectors: usize,
) {
    let mut sums = [[[lanes.splat(0.0); T]; R]; U];
    let mut at = 0;
    while at + U.max(2) * S::LANES <= depth {
        for two in 0..U.div_ceil(2) {
            let here = at + 2 * two * S::LANES;
            let mut weights = [[lanes.splat(0.0); 2]; R];
            for r in 0..R {
                // SAFETY: `here + 2 * LANES <= depth`, here and below.
                weights[r] = unsafe { lanes.load_two(w.add(r * stride + here)) };
            }
            for part in 0..2 {
                for t in 0..T {
                    let column = unsafe { lanes.load_at(x.add(t * depth + here + part * S::LANES)) };
                    for r in 0..R {
                        let sum = &mut sums[(2 * two + part) % U][r][t];
                        *sum = lanes.mul_add(weights[r][part], column, *sum);
                    }
                }
            }
        }
        at += U.max(2) * S::LANES;
    }
    while U > 2 && at + 2 * S::LANES <= depth {
        for r in 0..R {
            let weights = unsafe { lanes.load_two(w.add(r * stride + at)) };
            for t in 0..T {
                for part in 0..2 {
                    let column = unsafe { lanes.load_at(x.add(t * depth + at + part * S::LANES)) };
                    sums[part][r][t] = lanes.mul_add(weights[part], column, sums[part][r][t]);
                }
            }
        }
        at += 2 * S::LANES;
    }
    if at + S::LANES <= depth {
        for r in 0..R {
            let weight = unsafe { lanes.load_at(w.add(r * stride + at)) };
            for t in 0..T {
                let column = unsafe { lanes.load_at(x.add(t * depth + at)) };
                sums[0][r][t] = lanes.mul_add(weight, column, sums[0][r][t]);
            }
        }
        at += S::LANES;
    }
    for r in 0..R {
        for t in 0..T {
            let mut sum = sums[0][r][t];
            for more in &sums[1..] {
                sum = lanes.add(sum, more[r][t]);
            }
            let mut sum = lanes.sum(sum);
            for rest in at..depth {
                // SAFETY: `rest < depth`.
                sum += unsafe { (*w.add(r * stride + rest)).widen() * *x.add(t * depth + rest) };
            }
            result[r * vectors + t] = sum;
        }
    }
}
