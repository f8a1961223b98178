use std::ops::Range;

use super::{Attention, Seen, View};
use crate::block::Block;
use crate::element::Element;
use crate::isa::{self, Kernel, Lanes, dot, exp, product, transpose};

/// Keys at a time: a whole number of every set's register blocks.
pub(super) const KEYS: usize = 64;
/// The most rows for which keys and values are read as they lie, slot by slot; for more, keys are transposed first.
const FEW: usize = 4;
/// Values added up at a time.
const AT_ONCE: usize = 4;

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
    /// The slots from which row `row` sees some, of those that this is about.
    #[inline(always)]
    fn sees(&self, row: usize) -> Range<usize> {
        let query = self.queries.start + row % self.queries.len();
        let seen = self.seen.range(self.batch, query);
        seen.start.max(self.slots.start)..seen.end.min(self.slots.end)
    }
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Attention { heads, kv_heads, head_dim, scale, .. } = *self.seen.attention;
        let (groups, queries) = (heads / kv_heads, self.queries.len());
        let rows = groups * queries;
        let mut q = vec![0.0; rows * head_dim]; // [groups * queries, head_dim]
        for (row, to) in q.chunks_exact_mut(head_dim).enumerate() {
            let (group, query) = (row / queries, self.queries.start + row % queries);
            isa::convert(lanes, &self.q.from(self.batch, self.head * groups + group, query)[..head_dim], to);
            to.iter_mut().for_each(|q| *q *= scale);
        }
        let mut state = State {
            greatest: vec![f32::NEG_INFINITY; rows],
            weights: vec![0.0; rows],
            sums: vec![0.0; rows * head_dim],
        };
        let mut scores = vec![0.0; rows * KEYS]; // [groups * queries, KEYS]
        let mut panel = vec![0.0; KEYS * head_dim.max(rows.min(FEW))];
        let seen = (0..rows).map(|row| self.sees(row)).filter(|seen| !seen.is_empty());
        let all = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let gaps = self.seen.gaps(self.batch);
        for slot in all.clone().step_by(KEYS) {
            let keys = KEYS.min(all.end - slot);
            let k = self.k.from(self.batch, self.head, slot);
            let v = self.v.from(self.batch, self.head, slot);
            let (k_stride, v_stride) = (self.k.strides[2], self.v.strides[2]);
            if rows <= FEW {
                dot(lanes, k, k_stride, keys, &q, rows, head_dim, &mut panel);
                for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
                    for (key, score) in scores[..keys].iter_mut().enumerate() {
                        *score = panel[key * rows + row];
                    }
                }
            } else {
                transpose(lanes, [keys, head_dim], (k, k_stride), (&mut panel, KEYS));
                scores.fill(0.0);
                product(lanes, [rows, head_dim, KEYS], (&q, head_dim), (&panel, KEYS), (&mut scores, KEYS));
            }
            if let Some(visible) = gaps {
                let padding = visible[slot..slot + keys].iter().enumerate().filter(|(_, token)| !**token);
                for (key, _) in padding {
                    scores.iter_mut().skip(key).step_by(KEYS).for_each(|score| *score = f32::NEG_INFINITY);
                }
            }
            for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
                let seen = self.sees(row);
                let inside = |at: usize| at.clamp(slot, slot + keys) - slot;
                state.softmax(lanes, row, head_dim, scores, inside(seen.start)..inside(seen.end));
            }
            weighted(lanes, [rows, keys, head_dim], &scores, (v, v_stride), &mut state.sums);
        }
        state.finish(self.into, queries, head_dim);
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

/// Adds to `sums` `[rows, head_dim]` the product of `weights` `[rows, KEYS]` and the values of `keys` slots.
#[inline(always)]
fn weighted<S: Lanes, E: Element>(
    lanes: S,
    [rows, keys, head_dim]: [usize; 3],
    weights: &[f32],
    (v, stride): (&[E], usize),
    sums: &mut [f32],
) {
    let whole = head_dim / S::LANES * S::LANES;
    if rows <= FEW {
        // Values are read in one direction: this is as fast as memory is.
        for key in (0..keys).step_by(AT_ONCE) {
            for feature in (0..whole).step_by(S::LANES) {
                let mut values = [lanes.splat(0.0); AT_ONCE];
                for next in 0..AT_ONCE.min(keys - key) {
                    values[next] = lanes.load(v, (key + next) * stride + feature);
                }
                for row in 0..rows {
                    let at = row * head_dim + feature;
                    let mut sum = lanes.load(sums, at);
                    for next in 0..AT_ONCE {
                        let weight = lanes.splat(weights[row * KEYS + key + next]);
                        sum = lanes.mul_add(weight, values[next], sum);
                    }
                    lanes.store(sums, at, sum);
                }
            }
        }
    } else {
        product(lanes, [rows, keys, whole], (weights, KEYS), (v, stride), (sums, head_dim));
    }
    for feature in whole..head_dim {
        for row in 0..rows {
            let terms = (0..keys).map(|key| weights[row * KEYS + key] * v[key * stride + feature].widen());
            sums[row * head_dim + feature] += terms.sum::<f32>();
        }
    }
}
