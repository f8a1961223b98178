//! A few queries over a long sequence: its slots in parts, for more threads than there are heads.

use std::ops::Range;

use super::block::{Attend, Into};
use super::{Attention, Seen, View};
use crate::element::Element;
use crate::kernels::Kernels;

/// [`Kernels::attend`] with the `slots` that anything sees in so many parts.
pub(super) fn attend<E: Element>(
    kernels: &Kernels,
    seen: &Seen,
    [q, k, v]: [View<E>; 3],
    (slots, parts): (Range<usize>, usize),
    out: &mut [E],
) {
    let Attention { batch, heads, kv_heads, head_dim, queries, .. } = *seen.attention;
    let groups = heads / kv_heads;
    let row = 2 + head_dim;
    let length = slots.len().div_ceil(parts);
    kernels.floats.lend(batch * kv_heads * parts * groups * queries * row, |results| {
        let jobs = results.chunks_exact_mut(groups * queries * row).enumerate().map(|(index, part)| {
            let (head, first) = (index / parts, slots.start + index % parts * length);
            Attend {
                seen,
                q,
                k,
                v,
                batch: head / kv_heads,
                head: head % kv_heads,
                queries: 0..queries,
                slots: first.min(slots.end)..slots.end.min(first + length),
                into: Into::Part(part),
            }
        });
        kernels.threads.for_each(jobs.collect(), |job| job.run(kernels.set));
        for (index, out) in out.chunks_exact_mut(head_dim).enumerate() {
            let (token, head) = (index / heads, index % heads);
            let (sequence, query) = (token / queries, token % queries);
            let block = (sequence * kv_heads + head / groups) * parts;
            let part = |part| {
                let at = (block + part) * groups * queries + head % groups * queries + query;
                &results[at * row..(at + 1) * row]
            };
            join((0..parts).map(part), out);
        }
    });
}

/// Joins the parts of a row: greatest score, sum of the weights, and weighted sum.
fn join<'a, E: Element>(parts: impl Iterator<Item = &'a [f32]> + Clone, out: &mut [E]) {
    // A part that sees nothing has no greatest score.
    let parts = parts.filter(|part| part[1] != 0.0);
    let greatest = parts.clone().map(|part| part[0]).fold(f32::NEG_INFINITY, f32::max);
    let mut sums = vec![0.0; out.len()];
    let mut weights = 0.0;
    for part in parts {
        let factor = (part[0] - greatest).exp();
        weights += part[1] * factor;
        for (sum, value) in sums.iter_mut().zip(&part[2..]) {
            *sum += value * factor;
        }
    }
    let factor = if weights == 0.0 { 0.0 } else { 1.0 / weights };
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = E::narrow(sum * factor);
    }
}
