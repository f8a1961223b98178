use burn::tensor::Tensor;

/// Projected queries, keys and values of new tokens, and what is done to them before attention.
#[derive(Clone, Copy, Debug)]
pub struct Projections<'a> {
    /// `[batch * seq, heads * head_dim]`
    pub q: &'a Tensor<2>,
    /// `[batch * seq, kv_heads * head_dim]`
    pub k: &'a Tensor<2>,
    /// `[batch * seq, kv_heads * head_dim]`
    pub v: &'a Tensor<2>,
    /// Weight of the norm of every head of `q`: `[head_dim]`.
    pub q_norm: &'a Tensor<1>,
    /// Weight of the norm of every head of `k`: `[head_dim]`.
    pub k_norm: &'a Tensor<1>,
    /// Added to the mean square of a head.
    pub eps: f64,
    /// Cosines of RoPE, f32 `[batch, 1, seq, head_dim / 2]`.
    pub cos: &'a Tensor<4>,
    /// Sines of RoPE, f32 `[batch, 1, seq, head_dim / 2]`.
    pub sin: &'a Tensor<4>,
    /// Slot of the cache that the first token of each sequence is written to.
    pub start: usize,
}

/// What queries see.
#[derive(Clone, Copy, Debug)]
pub struct Visibility<'a> {
    /// Slot of the first query: a query sees no slot behind its own.
    pub start: usize,
    /// For each sequence and slot, whether it is a token and not padding; empty when there is no padding.
    pub visible: &'a [Vec<bool>],
    /// A query sees this many slots, its own included; `None` for all.
    pub window: Option<usize>,
    /// Factor of the scores; `head_dim^-0.5` in Qwen3.
    pub scale: f64,
}
