use std::fmt;

use burn::tensor::Tensor;

/// An intermediate tensor that can be observed, with its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tap {
    /// Token embeddings, `[batch, seq, hidden_size]`.
    Embedding,
    /// Output of the layer's first norm, `[batch, seq, hidden_size]`.
    InputLayernorm,
    /// Query projection, `[batch, seq, num_attention_heads * head_dim]`.
    QProj,
    /// Key projection, `[batch, seq, num_key_value_heads * head_dim]`.
    KProj,
    /// Value projection, `[batch, seq, num_key_value_heads * head_dim]`.
    VProj,
    /// Queries after their per-head norm, `[batch, seq, num_attention_heads, head_dim]`.
    QNorm,
    /// Keys after their per-head norm, `[batch, seq, num_key_value_heads, head_dim]`.
    KNorm,
    /// Queries after RoPE, `[batch, num_attention_heads, seq, head_dim]`.
    QRope,
    /// Keys after RoPE, `[batch, num_key_value_heads, seq, head_dim]`.
    KRope,
    /// Attention before the output projection, `[batch, seq, num_attention_heads * head_dim]`.
    Context,
    /// Attention after the output projection, `[batch, seq, hidden_size]`.
    OProj,
    /// Output of the layer's second norm, `[batch, seq, hidden_size]`.
    PostAttentionLayernorm,
    /// Output of the feed-forward block, `[batch, seq, hidden_size]`.
    Mlp,
    /// The layer's output, residual included, `[batch, seq, hidden_size]`.
    LayerOutput,
    /// Output of the model's last norm, `[batch, seq, hidden_size]`.
    FinalNorm,
    /// Scores over the vocabulary, `[batch, seq or 1, vocab_size]`.
    Logits,
}

impl Tap {
    /// The tap's name inside a layer, as the checkpoint's module paths spell it.
    pub fn name(self) -> &'static str {
        match self {
            Tap::Embedding => "embedding_output",
            Tap::InputLayernorm => "input_layernorm",
            Tap::QProj => "self_attn.q_proj",
            Tap::KProj => "self_attn.k_proj",
            Tap::VProj => "self_attn.v_proj",
            Tap::QNorm => "self_attn.q_norm",
            Tap::KNorm => "self_attn.k_norm",
            Tap::QRope => "self_attn.q_rope",
            Tap::KRope => "self_attn.k_rope",
            Tap::Context => "self_attn.context",
            Tap::OProj => "self_attn.o_proj",
            Tap::PostAttentionLayernorm => "post_attention_layernorm",
            Tap::Mlp => "mlp",
            Tap::LayerOutput => "output",
            Tap::FinalNorm => "final_norm_output",
            Tap::Logits => "logits",
        }
    }
}

/// A tap and the layer it is in.
///
/// Displays as the key of a reference file: `embedding_output`, `layer_03.self_attn.q_norm`,
/// `layer_03_output`, `final_norm_output`, `logits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// Index of the decoder layer, or `None` outside the layers.
    pub layer: Option<usize>,
    /// Which tensor.
    pub tap: Tap,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.tap.name();
        match self.layer {
            None => f.write_str(name),
            Some(layer) if self.tap == Tap::LayerOutput => write!(f, "layer_{layer:02}_output"),
            Some(layer) => write!(f, "layer_{layer:02}.{name}"),
        }
    }
}

/// An observed tensor; its rank is that of the [`Tap`].
#[derive(Clone, Debug)]
pub enum Observed {
    /// `[batch, seq, features]`
    Rank3(Tensor<3>),
    /// `[batch, seq, heads, head_dim]` or `[batch, heads, seq, head_dim]`
    Rank4(Tensor<4>),
}

/// Receives intermediate tensors while a model runs.
pub trait Observer {
    /// Called at every site in the order of computation. The tensor is a handle: nothing has been
    /// copied off the device. With a chunked prefill each site comes once per chunk.
    fn observe(&mut self, site: Site, value: Observed);
}

impl<F: FnMut(Site, Observed)> Observer for F {
    fn observe(&mut self, site: Site, value: Observed) {
        self(site, value)
    }
}

/// The way from the layers to an [`Observer`], if there is one. Without one, a tap is a branch.
pub struct Taps<'a> {
    observer: Option<&'a mut dyn Observer>,
    layer: Option<usize>,
}

impl<'a> Taps<'a> {
    /// Nobody looks.
    pub fn none() -> Self {
        Self {
            observer: None,
            layer: None,
        }
    }

    /// `observer` sees every site.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self {
            observer: Some(observer),
            layer: None,
        }
    }

    /// Sets the layer that the following taps belong to.
    pub(crate) fn enter(&mut self, layer: Option<usize>) {
        self.layer = layer;
    }

    pub(crate) fn rank3(&mut self, tap: Tap, value: &Tensor<3>) {
        if let Some(observer) = &mut self.observer {
            let layer = self.layer;
            observer.observe(Site { layer, tap }, Observed::Rank3(value.clone()));
        }
    }

    pub(crate) fn rank4(&mut self, tap: Tap, value: &Tensor<4>) {
        if let Some(observer) = &mut self.observer {
            let layer = self.layer;
            observer.observe(Site { layer, tap }, Observed::Rank4(value.clone()));
        }
    }
}
