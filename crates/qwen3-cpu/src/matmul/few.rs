//! Up to some tokens: every weight is read once, and the product is as fast as memory is.

use super::{Share, pairs, split_rows};
use crate::InstructionSet;
use crate::element::{Element, Kind};
use crate::isa::{self, Kernel, Lanes, dot, dot_split};
use crate::kernels::Kernels;

/// Bytes of weights in a job: enough that handing jobs out costs nothing, few enough that threads end together.
const JOB: usize = 256 << 10;
/// Rows whose sums lie on the stack at a time.
const ROWS: usize = 12;

/// The most tokens that are few with any set: up to here the dot products are as fast as the panels, which are made
/// first and padded.
const MOST: usize = 16;

/// The most tokens that are few. Pairs and tiles pay earlier.
pub(super) fn most<W: Element, X: Element>(kernels: &Kernels) -> usize {
    match kernels.set {
        InstructionSet::Amx if pairs::apply::<W, X>(kernels) => 4,
        InstructionSet::Avx512Bf16 if pairs::apply::<W, X>(kernels) => MOST,
        _ => MOST,
    }
}

pub(super) fn multiply<W: Element, X: Element>(
    kernels: &Kernels,
    shares: Vec<Share<W, X>>,
    x: &[X],
    tokens: usize,
    depth: usize,
) {
    kernels.floats.lend(x.len(), |floats| {
        let split = tokens == 1 && W::KIND == Kind::Bf16;
        isa::run(kernels.set, Widen { from: x, to: floats, split });
        let floats = &*floats;
        let rows = (JOB / (depth * size_of::<W>()).max(1)).next_multiple_of(ROWS);
        kernels.threads.for_each(split_rows(shares, rows).collect(), |share| {
            isa::run(kernels.set, Few { share, x: floats, tokens, depth });
        });
    });
}

/// Widens `from` to f32.
struct Widen<'a, X> {
    from: &'a [X],
    to: &'a mut [f32],
    /// For one token and weights in bf16.
    split: bool,
}

impl<X: Element> Kernel for Widen<'_, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        isa::convert(lanes, self.from, self.to);
        if self.split && lanes.splits() {
            isa::split(lanes, self.to);
        }
    }
}

struct Few<'a, W, X> {
    share: Share<'a, W, X>,
    /// `[tokens, depth]`
    x: &'a [f32],
    tokens: usize,
    depth: usize,
}

impl<W: Element, X: Element> Kernel for Few<'_, W, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self { mut share, x, tokens, depth } = self;
        let mut sums = [0.0; ROWS * MOST];
        let (first, count) = (share.rows.start, share.rows.len());
        for row in (0..count).step_by(ROWS) {
            let rows = ROWS.min(count - row);
            let weights = share.weight.rows(first + row..first + row + rows);
            if tokens == 1 && W::KIND == Kind::Bf16 && lanes.splits() {
                dot_split(lanes, bytemuck::cast_slice(weights), rows, x, &mut sums);
            } else {
                dot(lanes, weights, depth, rows, x, tokens, depth, &mut sums);
            }
            for token in 0..tokens {
                let y = &mut share.y.row(token)[row..row + rows];
                for (r, y) in y.iter_mut().enumerate() {
                    *y = X::narrow(sums[r * tokens + token]);
                }
            }
        }
    }
}
