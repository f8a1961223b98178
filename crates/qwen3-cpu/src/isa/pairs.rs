//! Products of pairs of bf16: what instructions do that multiply two numbers at a time.

use super::{Lanes, extent};

/// Rows of a block.
pub(crate) const PAIR_ROWS: usize = 48;
/// Columns of a block.
pub(crate) const PAIR_COLUMNS: usize = 32;
/// A block's depth is a multiple of it, in pairs.
pub(crate) const PAIR_DEPTH: usize = 16;

/// Adds to `c` `[PAIR_ROWS, PAIR_COLUMNS]` the product of `a` `[PAIR_ROWS, depth]` and `b` `[depth, PAIR_COLUMNS]`.
/// An element of `a` and `b` is two bf16, the first in the lower half: it stands for two columns of `a`, or rows of
/// `b`. `a` and `c` have a stride.
///
/// # Panics
/// When something is too short or `depth` no multiple of [`PAIR_DEPTH`].
#[inline(always)]
pub(crate) fn product_of_pairs<S: Lanes>(
    lanes: S,
    depth: usize,
    (a, a_stride): (&[u32], usize),
    b: &[u32],
    (c, c_stride): (&mut [f32], usize),
) {
    assert!(depth.is_multiple_of(PAIR_DEPTH), "{depth} pairs");
    assert!(a.len() >= extent(PAIR_ROWS, a_stride, depth) && depth <= a_stride);
    assert!(b.len() / PAIR_COLUMNS >= depth);
    assert!(c.len() >= extent(PAIR_ROWS, c_stride, PAIR_COLUMNS) && PAIR_COLUMNS <= c_stride);
    // SAFETY: the lengths are as just seen.
    unsafe { lanes.pairs(depth, (a.as_ptr(), a_stride), b.as_ptr(), (c.as_mut_ptr(), c_stride)) }
}

/// What AMX does, bit by bit: tiles of 16 pairs, whose even and odd products are summed apart; numbers too small for
/// a normal f32 are zeros.
///
/// Follows `TDPBF16PS` in Intel's manual of instructions.
///
/// # Safety
/// Those of [`Lanes::pairs`].
pub(super) unsafe fn emulate(
    depth: usize,
    (a, a_stride): (*const u32, usize),
    b: *const u32,
    (c, c_stride): (*mut f32, usize),
) {
    let flush = |x: f32| if x.is_subnormal() { 0.0 * x } else { x };
    let halves = |pair: u32| [flush(f32::from_bits(pair << 16)), flush(f32::from_bits(pair & 0xffff_0000))];
    for row in 0..PAIR_ROWS {
        for column in 0..PAIR_COLUMNS {
            // SAFETY: the caller's, for all three.
            let c = unsafe { &mut *c.add(row * c_stride + column) };
            for tile in (0..depth).step_by(PAIR_DEPTH) {
                let mut sums = [0.0f32; 2];
                for k in tile..tile + PAIR_DEPTH {
                    let (x, y) = unsafe { (*a.add(row * a_stride + k), *b.add(k * PAIR_COLUMNS + column)) };
                    for (sum, (x, y)) in sums.iter_mut().zip(halves(x).into_iter().zip(halves(y))) {
                        *sum = flush(x.mul_add(y, *sum));
                    }
                }
                *c = flush(flush(*c) + flush(sums[0] + sums[1]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::InstructionSet;
    use crate::isa::{Kernel, run};

    struct Product<'a>(usize, &'a [u32], &'a [u32], &'a mut [f32]);

    impl Kernel for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn compute<S: Lanes>(self, lanes: S) {
            product_of_pairs(lanes, self.0, (self.1, self.0 + 3), self.2, (self.3, PAIR_COLUMNS + 5));
        }
    }

    fn halves(pair: u32) -> [f64; 2] {
        [pair as u16, (pair >> 16) as u16].map(|bits| bf16::from_bits(bits).to_f64())
    }

    /// Every set against f64, and AMX bit by bit against its emulation, which the portable set is.
    #[test]
    fn products_of_pairs_are_those_of_f64_and_tiles_are_as_emulated() {
        let mut random = StdRng::seed_from_u64(1);
        for depth in [0, 16, 48, 256] {
            let mut pairs = |count: usize| -> Vec<u32> {
                let mut half = || u32::from(bf16::from_f32(random.random_range(-1.0..1.0)).to_bits());
                (0..count).map(|_| half() | half() << 16).collect()
            };
            let (a, b) = (pairs(PAIR_ROWS * (depth + 3)), pairs(depth * PAIR_COLUMNS));
            let product = |set| {
                let mut c = vec![0.5; PAIR_ROWS * (PAIR_COLUMNS + 5)];
                run(set, Product(depth, &a, &b, &mut c));
                c
            };
            let emulated = product(InstructionSet::Portable);
            for set in InstructionSet::available() {
                let c = product(set);
                for (index, found) in c.iter().enumerate() {
                    let (row, column) = (index / (PAIR_COLUMNS + 5), index % (PAIR_COLUMNS + 5));
                    let deep = if column < PAIR_COLUMNS { depth } else { 0 };
                    let term = |k: usize| {
                        let (x, y) = (halves(a[row * (depth + 3) + k]), halves(b[k * PAIR_COLUMNS + column]));
                        x[0] * y[0] + x[1] * y[1]
                    };
                    let sum = 0.5 + (0..deep).map(term).sum::<f64>();
                    assert!((f64::from(*found) - sum).abs() < 1e-5, "{set}: {row}, {column}: {found}, {sum}");
                }
                if set == InstructionSet::Amx {
                    let bits = |c: &[f32]| c.iter().map(|c| c.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&c), bits(&emulated), "depth {depth}");
                }
            }
        }
    }
}
