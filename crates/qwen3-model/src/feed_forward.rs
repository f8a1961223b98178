use burn::module::Module;
use burn::tensor::Tensor;
use qwen3_config::FeedForwardKind;

use crate::{Kernel, Mlp, Qwen3Config, SparseMoeBlock, Taps, WeightSource};

/// The feed-forward block of a decoder layer. In records and checkpoints the keys are those of what is inside.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one in a layer, beside attention, and it is not moved"
)]
pub enum FeedForward {
    /// One block that every token passes through.
    Dense(Mlp),
    /// Experts, of which every token passes through some.
    Sparse(SparseMoeBlock),
}

impl FeedForward {
    /// Takes the weights of a block of this `kind` under `{prefix}.`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        config: &Qwen3Config,
        kind: FeedForwardKind,
    ) -> Result<Self, S::Error> {
        match kind {
            FeedForwardKind::Dense { intermediate_size } => {
                Ok(Self::Dense(Mlp::build(source, prefix, config.hidden_size, intermediate_size)?))
            }
            FeedForwardKind::Sparse(experts) => {
                Ok(Self::Sparse(SparseMoeBlock::build(source, prefix, config, experts)?))
            }
        }
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape, in the dtype of the weights.
    pub fn forward(&self, x: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Sparse(block) => block.forward(x, taps),
        }
    }

    /// Sets how everything in it computes.
    pub(crate) fn set_kernel(&mut self, kernel: Kernel) {
        let blocks = match self {
            Self::Dense(mlp) => std::slice::from_mut(mlp),
            Self::Sparse(SparseMoeBlock { gate, experts, .. }) => {
                gate.kernel = kernel;
                &mut experts[..]
            }
        };
        for Mlp { gate_proj, up_proj, down_proj } in blocks {
            for linear in [gate_proj, up_proj, down_proj] {
                linear.kernel = kernel;
            }
        }
    }
}
