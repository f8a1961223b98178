use burn::module::Module;
use burn::tensor::{Tensor, activation::silu};

use crate::linear::project;
use crate::{Linear, WeightSource};

/// The gated feed-forward block, SwiGLU: `down(silu(gate(x)) * up(x))`.
///
/// Follows Transformers `Qwen3MLP`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[intermediate_size, hidden_size]`
    pub gate_proj: Linear,
    /// `[intermediate_size, hidden_size]`
    pub up_proj: Linear,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: Linear,
}

impl Mlp {
    /// Takes `{prefix}.gate_proj`, `{prefix}.up_proj` and `{prefix}.down_proj`, for `hidden` features outside
    /// the block and `inner` inside.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        hidden: usize,
        inner: usize,
    ) -> Result<Self, S::Error> {
        let mut linear = |name: &str, shape| Linear::build(source, &format!("{prefix}.{name}"), shape, false);
        Ok(Self {
            gate_proj: linear("gate_proj", [inner, hidden])?,
            up_proj: linear("up_proj", [inner, hidden])?,
            down_proj: linear("down_proj", [hidden, inner])?,
        })
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape, in the dtype of the weights.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, hidden] = x.dims();
        let x = x.reshape([batch * seq, hidden]); // [batch * seq, hidden_size]
        self.forward_tokens(x).reshape([batch, seq, hidden]) // [batch, seq, hidden_size]
    }

    /// [`forward`](Self::forward) over `[tokens, hidden_size]`.
    pub fn forward_tokens(&self, x: Tensor<2>) -> Tensor<2> {
        let [gate, up] = project([&self.gate_proj, &self.up_proj], &x);
        let inner = self.gate_proj.kernel.swiglu(&gate, &up); // [tokens, intermediate_size]
        let inner = inner.unwrap_or_else(|| silu(gate) * up); // [tokens, intermediate_size]
        self.down_proj.forward(inner) // [tokens, hidden_size]
    }
}
