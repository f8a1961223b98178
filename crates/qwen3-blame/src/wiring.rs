//! How norms, attention, feed-forward block and residuals of a layer are put together, as other architectures do it.

use crate::hypothesis::Hypothesis;
use crate::variant::Variant;

/// Where a norm over `hidden_size` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before attention or the feed-forward block, as in Qwen3.
    Before,
    /// Nowhere.
    Missing,
    /// On what comes out of them, before the residual is added, as in OLMo 2.
    Behind,
    /// On what comes out of attention, where it is the feed-forward block's.
    OnAttention,
    /// On the sum with the residual, as in the first Transformer.
    BehindResidual,
}

/// What the feed-forward block reads, before its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpInput {
    /// The sum behind attention, as in Qwen3.
    Sum,
    /// What goes into the layer, as in GPT-NeoX.
    LayerInput,
    /// What attention reads, as in GPT-J and Cohere.
    AttentionInput,
}

/// How the parts of a layer are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// The place of `input_layernorm`.
    pub attention_norm: NormPlace,
    /// The place of `post_attention_layernorm`.
    pub mlp_norm: NormPlace,
    /// See [`MlpInput`].
    pub mlp_reads: MlpInput,
    /// Is the normed input of attention added to its output?
    pub attention_adds_normed: bool,
    /// Is the normed input of the feed-forward block added to its output?
    pub mlp_adds_normed: bool,
}

impl Wiring {
    /// Qwen3's.
    pub const OWN: Self = Self {
        attention_norm: NormPlace::Before,
        mlp_norm: NormPlace::Before,
        mlp_reads: MlpInput::Sum,
        attention_adds_normed: false,
        mlp_adds_normed: false,
    };
}

/// Layers that are put together in other ways.
pub fn of_wiring() -> Vec<Hypothesis> {
    use NormPlace::{Before, Behind, BehindResidual, Missing, OnAttention};
    let with = |id, words: &str, wiring| Hypothesis::new(id, words, move |v: &mut Variant| v.wiring = wiring);
    let norms = |attention_norm, mlp_norm| Wiring { attention_norm, mlp_norm, ..Wiring::OWN };
    let adds = |attention_adds_normed, mlp_adds_normed| Wiring {
        attention_adds_normed,
        mlp_adds_normed,
        ..Wiring::OWN
    };
    vec![
        with("norm_missing", "input_layernorm is left out", norms(Missing, Before)),
        with("norm_missing", "post_attention_layernorm is left out", norms(Before, Missing)),
        with("norm_missing", "both norms of the layer are left out", norms(Missing, Missing)),
        with(
            "norm_behind_sublayer",
            "each norm is applied to what comes out of attention or MLP, before the residual is added",
            norms(Behind, Behind),
        ),
        with(
            "norm_behind_sublayer",
            "post_attention_layernorm is applied to attention's output, before the residual is added",
            norms(Before, OnAttention),
        ),
        with(
            "norm_behind_residual",
            "each norm is applied to the sum with the residual",
            norms(BehindResidual, BehindResidual),
        ),
        with("residual_of_normed", "the MLP's normed input is added to its output", adds(false, true)),
        with("residual_of_normed", "attention's normed input is added to its output", adds(true, false)),
        with(
            "residual_of_normed",
            "the normed inputs of attention and MLP are added to their outputs",
            adds(true, true),
        ),
        with(
            "parallel_mlp",
            "the MLP reads what attention reads, beside it",
            Wiring { mlp_norm: Missing, mlp_reads: MlpInput::AttentionInput, ..Wiring::OWN },
        ),
        with(
            "parallel_mlp",
            "the MLP reads the layer's input behind a norm of its own, beside attention",
            Wiring { mlp_reads: MlpInput::LayerInput, ..Wiring::OWN },
        ),
    ]
}
