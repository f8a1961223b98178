use std::ops::Range;

use super::{Attention, Seen, View, few, many};
use crate::InstructionSet;
use crate::block::Block;
use crate::element::Element;
use crate::isa::{self, Kernel, Lanes, exp};

/// Keys at a time: a whole number of every set's register blocks.
pub(super) const KEYS: usize = 64;

/// Where the result goes.
pub(super) enum Into<'a, E> {
    /// `[queries, groups * head_dim]`
    Tokens(Block<'a, E>),
    /// `[groups * queries, 2 + head_dim]`: the greatest score, the sum of the weights, and the weighted sum.
    Part(&'a mut [f32]),
}

/// Attention of some queries of all heads that share a key head, over some slots.
pub(super) struct Attend<'a, E> {
    pub(super) seen: &'a Seen<'a>,
    pub(super) q: View<'a, E>,
    pub(super) k: View<'a, E>,
    pub(super) v: View<'a, E>,
    pub(super) batch: usize,
    /// Of the keys.
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    pub(super) slots: Range<usize>,
    pub(super) into: Into<'a, E>,
}

impl<E: Element> Attend<'_, E> {
    /// Computes it with the instructions of `set`.
    pub(super) fn run(self, set: InstructionSet) {
        // Two kernels, each compiled by itself.
        if self.rows() <= few::MOST {
            isa::run(set, By::<E, true>(self))
        } else {
            isa::run(set, By::<E, false>(self))
        }
    }

    /// Query heads times queries.
    fn rows(&self) -> usize {
        let Attention { heads, kv_heads, .. } = self.seen.attention;
        heads / kv_heads * self.queries.len()
    }

    /// The slots from which row `row` sees some, of those that this is about.
    #[inline(always)]
    fn sees(&self, row: usize) -> Range<usize> {
        let query = self.queries.start + row % self.queries.len();
        let seen = self.seen.range(self.batch, query);
        seen.start.max(self.slots.start)..seen.end.min(self.slots.end)
    }
}

/// By what is for [few](few) rows or by what is for [many](many).
struct By<'a, E, const FEW: bool>(Attend<'a, E>);

impl<E: Element, const FEW: bool> Kernel for By<'_, E, FEW> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self(job) = self;
        let Attention { head_dim, scale, .. } = *job.seen.attention;
        let (rows, queries) = (job.rows(), job.queries.len());
        let groups = rows / queries;
        let mut q = vec![0.0; rows * head_dim]; // [groups * queries, head_dim]
        for (row, to) in q.chunks_exact_mut(head_dim).enumerate() {
            let (group, query) = (row / queries, job.queries.start + row % queries);
            isa::convert(lanes, &job.q.from(job.batch, job.head * groups + group, query)[..head_dim], to);
            to.iter_mut().for_each(|q| *q *= scale);
            if FEW {
                isa::arrange::<S, E>(lanes, to);
            }
        }
        let mut state = State {
            greatest: vec![f32::NEG_INFINITY; rows],
            weights: vec![0.0; rows],
            sums: vec![0.0; rows * head_dim],
        };
        let mut scores = vec![0.0; rows * KEYS]; // [groups * queries, KEYS]
        let mut panel = vec![0.0; if FEW { 0 } else { KEYS * head_dim }];
        let seen = (0..rows).map(|row| job.sees(row)).filter(|seen| !seen.is_empty());
        let all = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let gaps = job.seen.gaps(job.batch);
        for slot in all.clone().step_by(KEYS) {
            let keys = KEYS.min(all.end - slot);
            let k = (job.k.from(job.batch, job.head, slot), job.k.strides[2]);
            let v = (job.v.from(job.batch, job.head, slot), job.v.strides[2]);
            let shape = [rows, keys, head_dim];
            if FEW {
                few::score(lanes, shape, &q, k, v, &mut scores);
            } else {
                many::score(lanes, shape, &q, k, &mut panel, &mut scores);
            }
            if let Some(visible) = gaps {
                let padding = visible[slot..slot + keys].iter().enumerate().filter(|(_, token)| !**token);
                for (key, _) in padding {
                    scores.iter_mut().skip(key).step_by(KEYS).for_each(|score| *score = f32::NEG_INFINITY);
                }
            }
            for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
                let seen = job.sees(row);
                let inside = |at: usize| at.clamp(slot, slot + keys) - slot;
                state.softmax(lanes, row, head_dim, scores, inside(seen.start)..inside(seen.end));
            }
            if FEW {
                let more = slot + KEYS < all.end;
                let next = if more { job.k.from(job.batch, job.head, slot + KEYS) } else { &[] };
                few::add(lanes, shape, &scores, v, (next, k.1), &mut state.sums);
            } else {
                many::add(lanes, shape, &scores, v, &mut state.sums);
            }
        }
        if FEW {
            state.sums.chunks_exact_mut(head_dim).for_each(|sums| isa::restore::<S, E>(lanes, sums));
        }
        state.finish(job.into, queries, head_dim);
    }
}

/// What is known of each row after some keys.
struct State {
    greatest: Vec<f32>,
    weights: Vec<f32>,
    /// `[rows, head_dim]`
    sums: Vec<f32>,
}

impl State {
    /// Turns the scores of a row into weights, zero outside of `seen`, against the greatest score up to now.
    #[inline(always)]
    fn softmax<S: Lanes>(
        &mut self,
        lanes: S,
        row: usize,
        head_dim: usize,
        scores: &mut [f32],
        seen: Range<usize>,
    ) {
        if seen.is_empty() {
            return scores.fill(0.0);
        }
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        let before = self.greatest[row];
        let mut greatest = lanes.splat(before);
        let mut at = 0;
        while at < KEYS {
            greatest = lanes.max(lanes.load(scores, at), greatest);
            at += S::LANES;
        }
        let mut each = [before; isa::MOST_LANES];
        lanes.store(&mut each, 0, greatest);
        let now = each.into_iter().fold(before, f32::max);
        if now == f32::NEG_INFINITY {
            return scores.fill(0.0);
        }
        let (mut sum, shift) = (lanes.splat(0.0), lanes.splat(-now));
        let mut at = 0;
        while at < KEYS {
            let weight = exp(lanes, lanes.add(lanes.load(scores, at), shift));
            lanes.store(scores, at, weight);
            sum = lanes.add(sum, weight);
            at += S::LANES;
        }
        // Before the first key there is nothing to scale.
        let factor = if before == f32::NEG_INFINITY { 0.0 } else { (before - now).exp() };
        self.weights[row] = self.weights[row] * factor + lanes.sum(sum);
        self.greatest[row] = now;
        if factor != 1.0 {
            let sums = &mut self.sums[row * head_dim..][..head_dim];
            sums.iter_mut().for_each(|sum| *sum *= factor);
        }
    }

    #[inline(always)]
    fn finish<E: Element>(&self, into: Into<E>, queries: usize, head_dim: usize) {
        let rows = self.sums.chunks_exact(head_dim).enumerate();
        match into {
            Into::Tokens(mut out) => rows.for_each(|(row, sums)| {
                let to = &mut out.row(row % queries)[row / queries * head_dim..][..head_dim];
                let factor = if self.weights[row] == 0.0 { 0.0 } else { 1.0 / self.weights[row] };
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = E::narrow(sum * factor);
                }
            }),
            Into::Part(part) => {
                rows.zip(part.chunks_exact_mut(2 + head_dim)).for_each(|((row, sums), part)| {
                    part[0] = self.greatest[row];
                    part[1] = self.weights[row];
                    part[2..].copy_from_slice(sums);
                })
            }
        }
    }
}
