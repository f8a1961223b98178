//! Attention straight from a key/value cache, with a softmax that streams over the keys.

mod block;
mod few;
mod many;
mod split;

use std::ops::Range;

use crate::block::Block;
use crate::element::Element;
use crate::kernels::Kernels;
use block::{Attend, Into, KEYS};

/// Query heads times queries that share a block of keys.
const ROWS: usize = 128;
/// Keys of the smallest part of a split sequence.
const PART: usize = 4 * KEYS;

/// `[batch, heads, tokens, head_dim]` with any strides but that of the features, which are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, E> {
    /// From the first element on.
    pub data: &'a [E],
    /// Elements from one sequence, head and token to the next.
    pub strides: [usize; 3],
}

impl<'a, E> View<'a, E> {
    /// Row-major `[batch, heads, tokens, head_dim]`, as a cache is.
    pub fn of_heads(data: &'a [E], [heads, tokens, head_dim]: [usize; 3]) -> Self {
        Self { data, strides: [heads * tokens * head_dim, tokens * head_dim, head_dim] }
    }

    /// Row-major `[batch, tokens, heads, head_dim]`, as a projection is.
    pub fn of_tokens(data: &'a [E], [tokens, heads, head_dim]: [usize; 3]) -> Self {
        Self { data, strides: [tokens * heads * head_dim, head_dim, heads * head_dim] }
    }

    /// From a token of a head on.
    fn from(&self, batch: usize, head: usize, token: usize) -> &'a [E] {
        &self.data[batch * self.strides[0] + head * self.strides[1] + token * self.strides[2]..]
    }

    /// # Panics
    /// When the data is too short for this shape.
    fn check(&self, what: &str, [batch, heads, tokens, head_dim]: [usize; 4]) {
        let [b, h, t] = self.strides;
        if batch * heads * tokens > 0 {
            let last = [(batch, b), (heads, h), (tokens, t)]
                .map(|(count, stride)| (count - 1).saturating_mul(stride));
            let needed = last.into_iter().fold(head_dim, usize::saturating_add);
            let found = self.data.len();
            assert!(found >= needed, "{what} has {found} elements of {needed}");
        }
    }
}

/// Who attends to what.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Sequences.
    pub batch: usize,
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Features of a head, and of its values.
    pub head_dim: usize,
    /// Queries of each sequence.
    pub queries: usize,
    /// Slot of the first query: a query sees no slot behind its own.
    pub start: usize,
    /// For each sequence and slot, whether it is a token and not padding; empty when there is no padding.
    pub visible: &'a [Vec<bool>],
    /// A query sees this many slots, its own included; `None` for all.
    pub window: Option<usize>,
    /// Factor of the scores; `head_dim^-0.5` in Qwen3.
    pub scale: f32,
}

/// The slots that queries see.
struct Seen<'a> {
    attention: &'a Attention<'a>,
    /// Of each sequence the first slot that is not padding; empty when there is no padding.
    first: Vec<usize>,
}

impl<'a> Seen<'a> {
    fn new(attention: &'a Attention<'a>) -> Self {
        let first = |visible: &Vec<bool>| visible.iter().position(|token| *token).unwrap_or(visible.len());
        Self { attention, first: attention.visible.iter().map(first).collect() }
    }

    /// From the first slot that query `query` of sequence `batch` sees to its own.
    fn range(&self, batch: usize, query: usize) -> Range<usize> {
        let end = self.attention.start + query + 1;
        let first = self.first.get(batch).copied().unwrap_or(0);
        let first = self.attention.window.map_or(first, |window| first.max(end.saturating_sub(window)));
        first.min(end)..end
    }

    /// Whether slots of sequence `batch` are tokens, when some between tokens are not: those are not seen though they
    /// are in a [`range`](Self::range).
    fn gaps(&self, batch: usize) -> Option<&'a [bool]> {
        let visible = &self.attention.visible.get(batch)?[self.first[batch]..];
        visible.contains(&false).then(|| &*self.attention.visible[batch])
    }
}

impl Kernels {
    /// Attention of `q` over the slots of `k` and `v` that each query sees, into `out`
    /// `[batch, queries, heads, head_dim]`, row-major. Query head `h` reads key head `h / (heads / kv_heads)`.
    ///
    /// Follows Transformers `eager_attention_forward`, with scores, softmax and weights in f32 throughout. What sees
    /// nothing gets zeros.
    ///
    /// # Panics
    /// When a length does not fit, or `heads` is no multiple of `kv_heads`.
    pub fn attend<E: Element>(
        &self,
        attention: &Attention,
        q: View<E>,
        k: View<E>,
        v: View<E>,
        out: &mut [E],
    ) {
        let Attention { batch, heads, kv_heads, head_dim, queries, start, visible, .. } = *attention;
        assert_eq!(
            out.len(),
            batch * queries * heads * head_dim,
            "out is [{batch}, {queries}, {heads}, {head_dim}]"
        );
        if out.is_empty() {
            return;
        }
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads cannot share {kv_heads}");
        let slots = start + queries;
        assert!(visible.is_empty() || visible.len() == batch, "slots of each sequence");
        assert!(visible.iter().all(|visible| visible.len() >= slots), "{slots} slots of each sequence");
        q.check("q", [batch, heads, queries, head_dim]);
        k.check("k", [batch, kv_heads, slots, head_dim]);
        v.check("v", [batch, kv_heads, slots, head_dim]);
        assert!(k.strides[2] >= head_dim && v.strides[2] >= head_dim, "slots overlap");

        let groups = heads / kv_heads;
        let most = (ROWS / groups).max(1);
        let blocks = queries.div_ceil(most) * batch * kv_heads;
        let seen = Seen::new(attention);
        let wanted = (4 * self.threads.count()).div_ceil(blocks);
        let first = (0..batch).map(|sequence| seen.range(sequence, 0).start).min().unwrap_or(0);
        let parts = if self.threads.count() == 1 { 1 } else { wanted.min((slots - first).div_ceil(PART)) };
        if queries <= most && parts > 1 {
            return split::attend(self, &seen, [q, k, v], (first..slots, parts), out);
        }
        let mut jobs = Vec::with_capacity(blocks);
        let mut rest = Block::new(out, batch * queries);
        for sequence in 0..batch {
            for first in (0..queries).step_by(most) {
                let count = most.min(queries - first);
                let (mut columns, others) = rest.split_rows(count);
                rest = others;
                for head in 0..kv_heads {
                    let (out, others) = columns.split_columns(groups * head_dim);
                    columns = others;
                    let queries = first..first + count;
                    let into = Into::Tokens(out);
                    jobs.push(Attend {
                        seen: &seen,
                        q,
                        k,
                        v,
                        batch: sequence,
                        head,
                        queries,
                        slots: 0..slots,
                        into,
                    });
                }
            }
        }
        // Later queries see more: the longest jobs first.
        jobs.reverse();
        self.threads.for_each(jobs, |job| job.run(self.set));
    }
}
