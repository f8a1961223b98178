use burn::module::Module;
use burn::tensor::Tensor;
use qwen3_config::FeedForwardKind;

use crate::{Mlp, Qwen3Config, WeightSource};

/// The feed-forward block of a decoder layer. In records and checkpoints the keys are those of what is inside.
#[derive(Module, Debug)]
pub enum FeedForward {
    /// One block that every token passes through.
    Dense(Mlp),
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
        }
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape, in the dtype of the weights.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
        }
    }
}
