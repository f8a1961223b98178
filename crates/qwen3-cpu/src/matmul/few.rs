//! Up to some tokens: every weight is read once, and the product is as fast as memory is.

use std::marker::PhantomData;

use super::{Share, pairs, split_rows};
use crate::InstructionSet;
use crate::element::Element;
use crate::isa::{self, Kernel, Lanes, dot};
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
        isa::run(kernels.set, Widen { from: x, to: floats, depth, weights: PhantomData::<W> });
        let floats = &*floats;
        let rows = (JOB / (depth * size_of::<W>()).max(1)).next_multiple_of(ROWS);
        kernels.threads.for_each(split_rows(shares, rows).collect(), |share| {
            isa::run(kernels.set, Few { share, x: floats, tokens, depth });
        });
    });
}

/// Widens `from` to f32, [arranged](isa::arrange) for weights of `W`.
struct Widen<'a, W, X> {
    /// `[tokens, depth]`
    from: &'a [X],
    to: &'a mut [f32],
    depth: usize,
    weights: PhantomData<W>,
}

impl<W: Element, X: Element> Kernel for Widen<'_, W, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        isa::convert(lanes, self.from, self.to);
        for row in self.to.chunks_exact_mut(self.depth.max(1)) {
            isa::arrange::<S, W>(lanes, row);
        }
    }
}

struct Few<'a, W, X> {
    share: Share<'a, W, X>,
    /// `[tokens, depth]`, arranged
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
            dot(lanes, weights, depth, rows, x, tokens, depth, &mut sums);
            for token in 0..tokens {
                let y = &mut share.y.row(token)[row..row + rows];
                for (r, y) in y.iter_mut().enumerate() {
                    *y = X::narrow(sums[r * tokens + token]);
                }
            }
        }
    }
}
