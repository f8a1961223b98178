//! The register block of a large product, lanes along the columns: `ROWS` rows times two vectors.

use super::{Lanes, extent};
use crate::element::Element;

/// Vectors of the widest register block.
pub(crate) const MAX_VECTORS: usize = 2;

/// Steps along the depth between two calls of a product's `meanwhile`.
const STEPS: usize = 4;

/// How often [`product`] calls `meanwhile` at least.
pub(crate) fn calls<S: Lanes>(_: S, [rows, depth, columns]: [usize; 3]) -> usize {
    rows / S::ROWS * columns.div_ceil(MAX_VECTORS * S::LANES) * (depth / STEPS)
}

/// Adds to `c` `[rows, columns]` the product of `a` `[rows, depth]` and `b` `[depth, columns]`, each row-major with
/// its own stride; `columns` is a whole number of vectors. `meanwhile` is called again and again.
///
/// # Panics
/// When something is too short or `columns` is not such a number.
#[inline(always)]
pub(crate) fn product<S: Lanes, B: Element>(
    lanes: S,
    [rows, depth, columns]: [usize; 3],
    (a, a_stride): (&[f32], usize),
    (b, b_stride): (&[B], usize),
    (c, c_stride): (&mut [f32], usize),
    meanwhile: &mut impl FnMut(),
) {
    if rows == 0 || depth == 0 || columns == 0 {
        return;
    }
    assert!(columns % S::LANES == 0, "{columns} columns");
    assert!(a.len() >= extent(rows, a_stride, depth) && depth <= a_stride);
    assert!(b.len() >= extent(depth, b_stride, columns) && columns <= b_stride);
    assert!(c.len() >= extent(rows, c_stride, columns) && columns <= c_stride);
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    let mut column = 0;
    while column < columns {
        let vectors = ((columns - column) / S::LANES).min(MAX_VECTORS);
        let mut row = 0;
        while row < rows {
            let height = (rows - row).min(S::ROWS);
            // SAFETY: the block lies inside of the three matrices, whose lengths were just seen.
            unsafe {
                let (a, b) = (a.add(row * a_stride), b.add(column));
                let c = c.add(row * c_stride + column);
                macro_rules! block {
                    ($rows:literal, $vectors:literal) => {
                        block::<S, B, $rows, $vectors>(
                            lanes, depth, a, a_stride, b, b_stride, c, c_stride, meanwhile,
                        )
                    };
                }
                let height = match (height, vectors) {
                    (12.., 2) if S::WIDE => (block!(12, 2), 12).1,
                    (12.., _) if S::WIDE => (block!(12, 1), 12).1,
                    (6.., 2) => (block!(6, 2), 6).1,
                    (6.., _) => (block!(6, 1), 6).1,
                    (2.., 2) => (block!(2, 2), 2).1,
                    (2.., _) => (block!(2, 1), 2).1,
                    (_, 2) => (block!(1, 2), 1).1,
                    _ => (block!(1, 1), 1).1,
                };
                row += height;
            }
        }
        column += vectors * S::LANES;
    }
}

/// # Safety
/// `a` has `R` rows of `depth`, `b` `depth` rows of `V` vectors and `c` `R` rows of `V` vectors.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block<S: Lanes, B: Element, const R: usize, const V: usize>(
    lanes: S,
    depth: usize,
    a: *const f32,
    a_stride: usize,
    b: *const B,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    meanwhile: &mut impl FnMut(),
) {
    let mut sums = [[lanes.splat(0.0); V]; R];
    for k in 0..depth {
        if k % STEPS == 0 {
            meanwhile();
        }
        let mut columns = [lanes.splat(0.0); V];
        for v in 0..V {
            // SAFETY: the caller's, here and below.
            columns[v] = unsafe { lanes.load_at(b.add(k * b_stride + v * S::LANES)) };
        }
        for r in 0..R {
            let factor = lanes.splat(unsafe { *a.add(r * a_stride + k) });
            for v in 0..V {
                sums[r][v] = lanes.mul_add(factor, columns[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            unsafe {
                let to = c.add(r * c_stride + v * S::LANES);
                lanes.store_at(to, lanes.add(lanes.load_at(to.cast_const()), sums[r][v]));
            }
        }
    }
}
