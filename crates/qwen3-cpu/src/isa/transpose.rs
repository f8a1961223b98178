//! Transposition by way of a small block, whose rows do not share lines of the cache as those of a matrix do.

use super::{Lanes, convert};
use crate::element::Element;

/// Rows and columns of the block; a whole number of every set's lanes.
const SIDE: usize = 32;
/// Elements from one row of the block to the next.
const STRIDE: usize = SIDE + 1;

/// Writes `to[column * to_stride + row]` from `from[row * stride + column]`, for `rows` rows of `columns` columns.
///
/// # Panics
/// When something is too short.
#[inline(always)]
pub(crate) fn transpose<S: Lanes, F: Element, T: Element>(
    lanes: S,
    [rows, columns]: [usize; 2],
    (from, stride): (&[F], usize),
    (to, to_stride): (&mut [T], usize),
) {
    let mut block = [0.0; SIDE * STRIDE];
    for row in (0..rows).step_by(SIDE) {
        let height = SIDE.min(rows - row);
        for column in (0..columns).step_by(SIDE) {
            let width = SIDE.min(columns - column);
            let mut line = [0.0; SIDE];
            for r in 0..height {
                convert(lanes, &from[(row + r) * stride + column..][..width], &mut line[..width]);
                for c in 0..SIDE {
                    block[c * STRIDE + r] = line[c];
                }
            }
            for c in 0..width {
                let to = &mut to[(column + c) * to_stride + row..][..height];
                convert(lanes, &block[c * STRIDE..][..height], to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::InstructionSet;
    use crate::isa::{Kernel, run};

    struct Transposed<'a, F, T>([usize; 2], (&'a [F], usize), (&'a mut [T], usize));

    impl<F: Element, T: Element> Kernel for Transposed<'_, F, T> {
        type Output = ();

        #[inline(always)]
        fn compute<S: Lanes>(self, lanes: S) {
            transpose(lanes, self.0, self.1, self.2);
        }
    }

    fn check<F: Element, T: Element>() {
        for [rows, columns] in [[1, 1], [16, 100], [33, 31], [64, 64], [48, 70], [5, 0]] {
            let (stride, to_stride) = (columns + 3, rows + 2);
            let from: Vec<F> = (0..rows * stride).map(|i| F::narrow(i as f32 * 1.37 - 50.0)).collect();
            for set in InstructionSet::available() {
                let mut to = vec![T::narrow(7.0); columns * to_stride];
                run(set, Transposed([rows, columns], (&from, stride), (&mut to, to_stride)));
                for (index, found) in to.iter().enumerate() {
                    let (column, row) = (index / to_stride, index % to_stride);
                    let expected = if row < rows { from[row * stride + column].widen() } else { 7.0 };
                    assert_eq!(found.widen(), T::narrow(expected).widen(), "{set}: {row}, {column}");
                }
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        check::<f32, f32>();
        check::<bf16, f32>();
        check::<f32, f16>();
        check::<f32, bf16>();
    }
}
