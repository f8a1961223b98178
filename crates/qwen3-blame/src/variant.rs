//! The ways in which an implementation of Qwen3 can be wrong, as switches of the [`probe`](super::probe).

use std::borrow::Cow;
use std::sync::Arc;

use qwen3_config::{Qwen3Config, Reach, Rope};

use crate::arithmetic::Arithmetic;
use crate::cache::CacheUse;
use crate::feed_forward::ExpertOrder;
use crate::habits::{Habit, centred};
use crate::low_rank::AdapterUse;
use crate::sent::Sent;
use crate::wiring::Wiring;

/// How queries and keys are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Feature `i` pairs with `i + head_dim / 2`, as in Qwen3.
    Halves,
    /// Feature `2 i` pairs with `2 i + 1`.
    Interleaved,
    /// Not at all.
    Missing,
}

/// Which keys a query sees of those in the layer's [`Reach`], beside padding, which it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and those before it.
    Causal,
    /// Every key.
    Missing,
    /// One more than it should.
    ShowsNext,
    /// One fewer than it should; a query that is left with none attends to all alike.
    HidesSelf,
    /// The same, but a query that is left with none sees itself.
    HidesSelfButFirst,
    /// The same, but a query that is left with none sees every key.
    HidesSelfFirstSeesAll,
    /// Itself and those before it in its chunk of so many tokens.
    Chunks(usize),
}

/// How far back the layers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookBack {
    /// As the config says.
    Own,
    /// To the first token, windows or not.
    Missing,
    /// Over windows of so many more tokens.
    Longer(isize),
    /// Over a window of so many tokens where there should be none, and to the first token where there should be one.
    Exchanged(usize),
}

impl LookBack {
    /// How far a layer looks back that should look back as far as `right`.
    pub fn reach(self, right: Reach) -> Reach {
        match (self, right) {
            (Self::Own, reach) => reach,
            (Self::Missing, _) | (Self::Exchanged(_), Reach::Window(_)) | (Self::Longer(_), Reach::All) => {
                Reach::All
            }
            (Self::Longer(by), Reach::Window(window)) => Reach::Window(window.saturating_add_signed(by)),
            (Self::Exchanged(window), Reach::All) => Reach::Window(window),
        }
    }
}

/// The gate's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`, as in Qwen3.
    Silu,
    /// GELU by the error function.
    GeluErf,
    /// GELU by its approximation with tanh.
    GeluTanh,
}

/// What the outputs of a token's experts are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpertWeighing {
    /// What the config says.
    Own,
    /// Their probabilities among all experts.
    Probabilities,
    /// Those divided by their sum, which is what a softmax over the chosen experts' scores gives.
    Normalised,
    /// The softmax of those probabilities.
    SoftmaxOfProbabilities,
}

/// How a projection's weight is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`, as in the checkpoint.
    OutIn,
    /// The bytes taken for `[in, out]`; a square weight is transposed by it.
    InOut,
    /// Transposed to `[in, out]`, and that taken for `[out, in]`.
    TransposedAsOutIn,
}

/// Which per-head norms of queries and keys there are, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNorm {
    /// Over each head's features, before RoPE, as in Qwen3.
    PerHead,
    /// Over each head's features, after RoPE.
    AfterRope,
    /// The same, where what goes by its name is what RoPE reads: the projection, by heads.
    AfterRopeUnseen,
    /// One mean square over all heads' features.
    OverAllHeads,
}

/// Which norms use `1 + weight` for their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightOffset {
    /// None, as in Qwen3.
    None,
    /// Every norm.
    All,
    /// Those over `hidden_size`.
    Hidden,
    /// Those over `head_dim`.
    Heads,
}

/// Which matrix makes the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The one that the config says.
    Own,
    /// The embedding, though the config unties them.
    Embedding,
    /// The file's `lm_head.weight`, though the config ties them.
    Untied,
    /// None: logits of zero, as a head that was never loaded gives.
    Zeros,
}

/// An implementation of Qwen3: the right one, or one that differs from it in some places.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// See [`Rotation`].
    pub rotation: Rotation,
    /// RoPE's frequencies.
    pub rope: Rope,
    /// Added to the queries' positions and not to the keys', in tokens.
    pub query_offset: i64,
    /// Added to the keys' positions and not to the queries', in tokens.
    pub key_offset: i64,
    /// Is there a norm on the queries?
    pub q_norm: bool,
    /// Is there a norm on the keys?
    pub k_norm: bool,
    /// See [`HeadNorm`].
    pub head_norm: HeadNorm,
    /// `k_proj` and `v_proj` have each other's weights.
    pub kv_swapped: bool,
    /// The layout of `k_proj.weight`.
    pub k_layout: Layout,
    /// The layout of `v_proj.weight`.
    pub v_layout: Layout,
    /// In dense layers, `gate_proj` and `up_proj` have each other's weights.
    pub gate_up_swapped: bool,
    /// In every expert, `gate_proj` and `up_proj` have each other's weights.
    pub expert_gate_up_swapped: bool,
    /// See [`ExpertWeighing`].
    pub expert_weighing: ExpertWeighing,
    /// How many experts a token is sent to, if another number than the config's.
    pub top_k: Option<usize>,
    /// Which expert's weights each has instead of its own, if they are not in their places.
    pub expert_order: Option<ExpertOrder>,
    /// By what tokens are sent whose experts are nearly tied, where they were observed.
    pub sent: Option<Arc<Sent>>,
    /// See [`Activation`].
    pub activation: Activation,
    /// Added to the mean square in norms over `hidden_size`.
    pub eps: f64,
    /// Added to the mean square in norms over `head_dim`.
    pub head_eps: f64,
    /// See [`WeightOffset`].
    pub weight_offset: WeightOffset,
    /// Query head `h` reads key head `h % kv_heads`.
    pub groups_interleaved: bool,
    /// What scores are multiplied by.
    pub scale: f64,
    /// See [`Mask`].
    pub mask: Mask,
    /// What tokens behind the prompt do wrong, if anything.
    pub cached: Option<CacheUse>,
    /// What is done as elsewhere, if anything.
    pub habit: Option<Habit>,
    /// The score of one more term in the softmax of each head, if there is one.
    pub sinks: Option<Arc<[f64]>>,
    /// See [`LookBack`].
    pub look_back: LookBack,
    /// Is attention's input added to its output?
    pub attention_residual: bool,
    /// Is the feed-forward block's input added to its output?
    pub mlp_residual: bool,
    /// See [`Wiring`].
    pub wiring: Wiring,
    /// `post_attention_layernorm` has the weight of `input_layernorm`.
    pub post_norm_is_input_norm: bool,
    /// How often the final norm is applied.
    pub final_norms: usize,
    /// See [`Head`].
    pub head: Head,
    /// The layer whose weights are used instead, if another.
    pub other_layer: Option<usize>,
    /// See [`AdapterUse`].
    pub adapter: AdapterUse,
    /// See [`Arithmetic`].
    pub arithmetic: Arithmetic,
}

impl Variant {
    /// Qwen3 as `config` describes it.
    pub fn right(config: &Qwen3Config) -> Self {
        Self {
            rotation: Rotation::Halves,
            rope: config.rope,
            query_offset: 0,
            key_offset: 0,
            q_norm: true,
            k_norm: true,
            head_norm: HeadNorm::PerHead,
            kv_swapped: false,
            k_layout: Layout::OutIn,
            v_layout: Layout::OutIn,
            gate_up_swapped: false,
            expert_gate_up_swapped: false,
            expert_weighing: ExpertWeighing::Own,
            top_k: None,
            expert_order: None,
            sent: None,
            activation: Activation::Silu,
            eps: config.rms_norm_eps,
            head_eps: config.rms_norm_eps,
            weight_offset: WeightOffset::None,
            groups_interleaved: false,
            scale: (config.head_dim as f64).powf(-0.5),
            mask: Mask::Causal,
            cached: None,
            habit: None,
            sinks: None,
            look_back: LookBack::Own,
            attention_residual: true,
            mlp_residual: true,
            wiring: Wiring::OWN,
            post_norm_is_input_norm: false,
            final_norms: 1,
            head: Head::Own,
            other_layer: None,
            adapter: AdapterUse::Right,
            arithmetic: Arithmetic::Exact,
        }
    }

    /// The same, where the tokens behind `prompt` of a row are read one after the other.
    pub(crate) fn behind(self, prompt: usize) -> Self {
        Self { cached: Some(CacheUse::right(prompt)), ..self }
    }

    /// What a norm takes the mean square of, in groups of `width`: those of heads, or those over `hidden_size`.
    pub(crate) fn before_norm<'a>(&self, x: &'a [f64], width: usize, of_heads: bool) -> Cow<'a, [f64]> {
        match self.habit {
            Some(Habit::LayerNorm { hidden, heads }) if if of_heads { heads } else { hidden } => {
                centred(x, width).into()
            }
            _ => x.into(),
        }
    }

    /// Do both compute the same queries, keys and values from the same input, before the head norms?
    pub fn same_projections(&self, other: &Self) -> bool {
        let parts = |v: &Self| {
            let offset = matches!(v.weight_offset, WeightOffset::All | WeightOffset::Hidden);
            let habit = v.habit.filter(|habit| habit.in_projections());
            let weights = (v.kv_swapped, v.k_layout, v.v_layout, v.other_layer, v.adapter);
            (weights, v.eps, offset, v.arithmetic, habit, v.wiring.attention_norm)
        };
        parts(self) == parts(other)
    }
}
