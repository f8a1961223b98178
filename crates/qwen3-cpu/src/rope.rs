//! What happens to queries, keys and values between their projections and attention, in one pass.

use crate::element::Element;
use crate::isa::{self, Kernel, Lanes};
use crate::kernels::Kernels;
use crate::norm::{ALONE, norm_row};

/// Rows of heads in a larger matrix: those of a projection, or of several that lie side by side.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, E> {
    /// From the first element of the first row on.
    pub data: &'a [E],
    /// Elements from one row to the next.
    pub stride: usize,
}

/// Where the products of RoPE are rounded to the dtype of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRounding {
    /// Cosine, sine, both products and their sum, as Transformers `apply_rotary_pos_emb` does.
    Each,
    /// The sum alone.
    Once,
}

/// Queries, keys and values of new tokens, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, E> {
    /// Sequences.
    pub batch: usize,
    /// New tokens of each sequence.
    pub tokens: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Features of a head; even.
    pub head_dim: usize,
    /// Projected queries: `[batch * tokens, heads * head_dim]`.
    pub q: Rows<'a, E>,
    /// Projected keys: `[batch * tokens, kv_heads * head_dim]`.
    pub k: Rows<'a, E>,
    /// Projected values: `[batch * tokens, kv_heads * head_dim]`.
    pub v: Rows<'a, E>,
    /// Weight of the norm of every head of `q`: `[head_dim]`.
    pub q_norm: &'a [E],
    /// Weight of the norm of every head of `k`: `[head_dim]`.
    pub k_norm: &'a [E],
    /// Added to the mean square before the root.
    pub eps: f32,
    /// Cosines `[batch * tokens, head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines `[batch * tokens, head_dim / 2]`.
    pub sin: &'a [f32],
    /// Of RoPE.
    pub rounding: RopeRounding,
    /// Slot of the cache that the first token of each sequence is written to.
    pub start: usize,
    /// Slots of the cache.
    pub capacity: usize,
}

impl Kernels {
    /// Normalises and rotates queries into `q_out` `[batch * tokens, heads * head_dim]`, and keys into the cache
    /// `keys`, and copies values to `values`, both `[batch, kv_heads, capacity, head_dim]`.
    ///
    /// Follows Transformers `Qwen3Attention`: the norms are [`rms_norm`](Self::rms_norm)'s, RoPE rotates halves.
    ///
    /// # Panics
    /// When a length does not fit, or the tokens do not fit the cache.
    pub fn write_heads<E: Element>(
        &self,
        heads: &Heads<E>,
        q_out: &mut [E],
        keys: &mut [E],
        values: &mut [E],
    ) {
        let Heads { batch, tokens, head_dim, kv_heads, capacity, .. } = *heads;
        heads.check(q_out.len(), [keys.len(), values.len()]);
        let (width, slots) = (heads.heads * head_dim, capacity * head_dim);
        if batch * tokens * head_dim == 0 {
            return;
        }
        let rows = (ALONE / width.max(1)).max(1);
        let mut jobs: Vec<_> = q_out
            .chunks_mut((rows * width).max(1))
            .enumerate()
            .map(|(chunk, out)| Part::Queries { first: chunk * rows, out })
            .collect();
        let caches = keys.chunks_mut(slots.max(1)).zip(values.chunks_mut(slots.max(1)));
        jobs.extend(caches.enumerate().map(|(index, (keys, values))| Part::Cache {
            batch: index / kv_heads,
            head: index % kv_heads,
            keys,
            values,
        }));
        let job = |part| isa::run(self.set, Write { heads, part });
        if batch * tokens * (heads.heads + 2 * kv_heads) * head_dim <= ALONE {
            jobs.into_iter().for_each(job);
        } else {
            self.threads.for_each(jobs, job);
        }
    }
}

impl<E> Heads<'_, E> {
    fn check(&self, q_out: usize, caches: [usize; 2]) {
        let Self { batch, tokens, heads, kv_heads, head_dim, start, capacity, .. } = *self;
        let rows = batch * tokens;
        assert!(head_dim.is_multiple_of(2), "halves of {head_dim} features");
        assert!(start + tokens <= capacity, "slots {start} to {} of {capacity}", start + tokens);
        assert_eq!(q_out, rows * heads * head_dim, "queries are [{rows}, {heads} * {head_dim}]");
        let cache = batch * kv_heads * capacity * head_dim;
        assert_eq!(caches, [cache; 2], "a cache is [{batch}, {kv_heads}, {capacity}, {head_dim}]");
        assert!(
            self.q_norm.len() == head_dim && self.k_norm.len() == head_dim,
            "norms of {head_dim} features"
        );
        assert!(
            self.cos.len() == rows * (head_dim / 2) && self.sin.len() == rows * (head_dim / 2),
            "angles of {rows} rows"
        );
        for (what, part, count) in [("q", &self.q, heads), ("k", &self.k, kv_heads), ("v", &self.v, kv_heads)]
        {
            let (width, found) = (count * head_dim, part.data.len());
            assert!(rows <= 1 || width <= part.stride, "rows of {what} overlap");
            assert!(rows == 0 || found >= (rows - 1) * part.stride + width, "{what} has {found} elements");
        }
    }
}

enum Part<'a, E> {
    /// Rows of the queries from `first` on.
    Queries { first: usize, out: &'a mut [E] },
    /// `[capacity, head_dim]` of a sequence's head.
    Cache { batch: usize, head: usize, keys: &'a mut [E], values: &'a mut [E] },
}

struct Write<'a, E> {
    heads: &'a Heads<'a, E>,
    part: Part<'a, E>,
}

impl<E: Element> Kernel for Write<'_, E> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Heads { tokens, heads, head_dim, q, k, v, q_norm, k_norm, start, .. } = *self.heads;
        match self.part {
            Part::Queries { first, out } => {
                for (row, out) in (first..).zip(out.chunks_exact_mut(heads * head_dim)) {
                    let from = &q.data[row * q.stride..][..heads * head_dim];
                    for (from, out) in from.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
                        head(lanes, self.heads, from, q_norm, row, out);
                    }
                }
            }
            Part::Cache { batch, head: index, keys, values } => {
                for token in 0..tokens {
                    let row = batch * tokens + token;
                    let slot = (start + token) * head_dim..(start + token + 1) * head_dim;
                    let from = &k.data[row * k.stride + index * head_dim..][..head_dim];
                    head(lanes, self.heads, from, k_norm, row, &mut keys[slot.clone()]);
                    let from = &v.data[row * v.stride + index * head_dim..][..head_dim];
                    values[slot].copy_from_slice(from);
                }
            }
        }
    }
}

/// Normalises a head and rotates it by the angles of `row`.
#[inline(always)]
fn head<S: Lanes, E: Element>(lanes: S, heads: &Heads<E>, from: &[E], norm: &[E], row: usize, out: &mut [E]) {
    norm_row(lanes, from, norm, heads.eps, out);
    let half = out.len() / 2;
    let (low, high) = out.split_at_mut(half);
    let cos = &heads.cos[row * half..][..half];
    let sin = &heads.sin[row * half..][..half];
    match heads.rounding {
        RopeRounding::Once => rotate::<S, E, f32>(lanes, low, high, cos, sin),
        RopeRounding::Each => rotate::<S, E, E>(lanes, low, high, cos, sin),
    }
}

/// `low * cos - high * sin` and `high * cos + low * sin`; `P` is what angles and products are rounded to.
#[inline(always)]
fn rotate<S: Lanes, E: Element, P: Element>(
    lanes: S,
    low: &mut [E],
    high: &mut [E],
    cos: &[f32],
    sin: &[f32],
) {
    let mut at = 0;
    while at + S::LANES <= low.len() {
        let cos = isa::round_to::<S, P>(lanes, lanes.load(cos, at));
        let sin = isa::round_to::<S, P>(lanes, lanes.load(sin, at));
        let (a, b) = (lanes.load(low, at), lanes.load(high, at));
        let minus = lanes.mul(b, lanes.splat(-1.0));
        let a_cos = isa::round_to::<S, P>(lanes, lanes.mul(a, cos));
        let b_sin = isa::round_to::<S, P>(lanes, lanes.mul(minus, sin));
        let b_cos = isa::round_to::<S, P>(lanes, lanes.mul(b, cos));
        let a_sin = isa::round_to::<S, P>(lanes, lanes.mul(a, sin));
        lanes.store(low, at, lanes.add(a_cos, b_sin));
        lanes.store(high, at, lanes.add(b_cos, a_sin));
        at += S::LANES;
    }
    let product = |x: f32, y: f32| P::narrow(x * P::narrow(y).widen()).widen();
    for at in at..low.len() {
        let (a, b) = (low[at].widen(), high[at].widen());
        low[at] = E::narrow(product(a, cos[at]) - product(b, sin[at]));
        high[at] = E::narrow(product(b, cos[at]) + product(a, sin[at]));
    }
}
