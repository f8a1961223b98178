//! The tensors that pass through a model: their names, order and shapes.

use std::fmt;
use std::str::FromStr;

use crate::{FeedForwardKind, Qwen3Config};

/// An intermediate tensor that can be observed.
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
    /// In a sparse layer, the router's scores of the experts, `[batch, seq, num_experts]`.
    RouterLogits,
    /// In a sparse layer, one for each expert that a token is sent to and zero for the others,
    /// `[batch, seq, num_experts]`.
    ChosenExperts,
    /// In a sparse layer, what each expert's output is multiplied by, zero for those that are not chosen,
    /// `[batch, seq, num_experts]`.
    ExpertWeights,
    /// Output of the feed-forward block, `[batch, seq, hidden_size]`.
    Mlp,
    /// The layer's output, residual included, `[batch, seq, hidden_size]`.
    LayerOutput,
    /// Output of the model's last norm, `[batch, seq, hidden_size]`.
    FinalNorm,
    /// Scores over the vocabulary, `[batch, seq, vocab_size]`.
    Logits,
}

impl Tap {
    /// Every tap, in the order of computation.
    pub const ALL: [Self; 19] = [
        Self::Embedding,
        Self::InputLayernorm,
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::QNorm,
        Self::KNorm,
        Self::QRope,
        Self::KRope,
        Self::Context,
        Self::OProj,
        Self::PostAttentionLayernorm,
        Self::RouterLogits,
        Self::ChosenExperts,
        Self::ExpertWeights,
        Self::Mlp,
        Self::LayerOutput,
        Self::FinalNorm,
        Self::Logits,
    ];

    /// Those that may be inside a decoder layer, its output included.
    pub fn of_layer() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(|tap| tap.is_in_layer())
    }

    /// Those inside a decoder layer with this feed-forward block, its output included.
    pub fn of_kind(kind: FeedForwardKind) -> impl Iterator<Item = Self> + Clone {
        let sparse = matches!(kind, FeedForwardKind::Sparse(_));
        Self::of_layer().filter(move |tap| sparse || !tap.is_of_experts())
    }

    /// Is it in sparse layers only?
    pub fn is_of_experts(self) -> bool {
        matches!(self, Self::RouterLogits | Self::ChosenExperts | Self::ExpertWeights)
    }

    /// Is it in a decoder layer?
    pub fn is_in_layer(self) -> bool {
        !matches!(self, Self::Embedding | Self::FinalNorm | Self::Logits)
    }

    /// The tap's name inside a layer, as the checkpoint's module paths spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding_output",
            Self::InputLayernorm => "input_layernorm",
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::QNorm => "self_attn.q_norm",
            Self::KNorm => "self_attn.k_norm",
            Self::QRope => "self_attn.q_rope",
            Self::KRope => "self_attn.k_rope",
            Self::Context => "self_attn.context",
            Self::OProj => "self_attn.o_proj",
            Self::PostAttentionLayernorm => "post_attention_layernorm",
            Self::RouterLogits => "mlp.router_logits",
            Self::ChosenExperts => "mlp.chosen_experts",
            Self::ExpertWeights => "mlp.expert_weights",
            Self::Mlp => "mlp",
            Self::LayerOutput => "output",
            Self::FinalNorm => "final_norm_output",
            Self::Logits => "logits",
        }
    }

    /// The tap of this [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tap| tap.name() == name)
    }

    /// The tensor's shape for `batch` sequences of `seq` tokens.
    pub fn shape(self, config: &Qwen3Config, batch: usize, seq: usize) -> Vec<usize> {
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let head_dim = config.head_dim;
        match self {
            Self::RouterLogits | Self::ChosenExperts | Self::ExpertWeights => {
                let experts = config.sparse.as_ref().map_or(0, |sparse| sparse.experts.count);
                vec![batch, seq, experts]
            }
            Self::QProj | Self::Context => vec![batch, seq, heads * head_dim],
            Self::KProj | Self::VProj => vec![batch, seq, kv_heads * head_dim],
            Self::QNorm => vec![batch, seq, heads, head_dim],
            Self::KNorm => vec![batch, seq, kv_heads, head_dim],
            Self::QRope => vec![batch, heads, seq, head_dim],
            Self::KRope => vec![batch, kv_heads, seq, head_dim],
            Self::Logits => vec![batch, seq, config.vocab_size],
            _ => vec![batch, seq, config.hidden_size],
        }
    }

    /// Which axis of the tensor is the sequence.
    pub fn sequence_axis(self) -> usize {
        if matches!(self, Self::QRope | Self::KRope) { 2 } else { 1 }
    }
}

/// A tap and the layer it is in; ordered as they are computed.
///
/// Displays as the key of a reference file, and is parsed from it: `embedding_output`,
/// `layer_03.self_attn.q_norm`, `layer_03_output`, `final_norm_output`, `logits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Index of the decoder layer, or `None` outside the layers.
    pub layer: Option<usize>,
    /// Which tensor.
    pub tap: Tap,
}

impl Site {
    /// A tensor outside the layers.
    pub const fn outside(tap: Tap) -> Self {
        Self { layer: None, tap }
    }

    /// A tensor of layer `layer`.
    pub const fn inside(layer: usize, tap: Tap) -> Self {
        let layer = Some(layer);
        Self { layer, tap }
    }

    /// Every tensor that may be in a model of `layers` layers, in the order of computation.
    pub fn all(layers: usize) -> impl Iterator<Item = Self> {
        let inside = |layer| Tap::of_layer().map(move |tap| Self::inside(layer, tap));
        let inside = (0..layers).flat_map(inside);
        let end = [Self::outside(Tap::FinalNorm), Self::outside(Tap::Logits)];
        [Self::outside(Tap::Embedding)].into_iter().chain(inside).chain(end)
    }

    /// What the step `steps` steps after the embedding gives in a model of `layers` layers: the layers'
    /// outputs, then the final norm's and the head's.
    pub fn output(steps: usize, layers: usize) -> Self {
        match steps {
            0 => Self::outside(Tap::Embedding),
            _ if steps <= layers => Self::inside(steps - 1, Tap::LayerOutput),
            _ if steps == layers + 1 => Self::outside(Tap::FinalNorm),
            _ => Self::outside(Tap::Logits),
        }
    }

    /// Is it between the outputs of two steps?
    pub fn is_inner(self) -> bool {
        self.layer.is_some() && self.tap != Tap::LayerOutput
    }
}

impl Ord for Site {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let place = |site: &Self| match (site.layer, site.tap) {
            (Some(layer), tap) => (1, layer, tap),
            (None, Tap::Embedding) => (0, 0, Tap::Embedding),
            (None, tap) => (2, 0, tap),
        };
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for Site {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.tap.name();
        match self.layer {
            None => f.write_str(name),
            Some(layer) if self.tap == Tap::LayerOutput => write!(f, "layer_{layer:02}_{name}"),
            Some(layer) => write!(f, "layer_{layer:02}.{name}"),
        }
    }
}

/// That a text is no key of a reference file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a tensor of the model")]
pub struct UnknownSite(pub String);

impl FromStr for Site {
    type Err = UnknownSite;

    fn from_str(key: &str) -> Result<Self, UnknownSite> {
        let inside = |rest: &str| {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, name) = rest.split_at(end);
            let tap = Tap::parse(name.get(1..)?).filter(|tap| tap.is_in_layer())?;
            Some(Self::inside(digits.parse().ok()?, tap))
        };
        let site = match key.strip_prefix("layer_") {
            Some(rest) => inside(rest),
            None => Tap::parse(key).filter(|tap| !tap.is_in_layer()).map(Self::outside),
        };
        // A name has one spelling: `layer_3_output` and `layer_03.output` are none.
        site.filter(|site| site.to_string() == key).ok_or_else(|| UnknownSite(key.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_in_the_order_of_computation() {
        let sites: Vec<_> = Site::all(2).collect();
        assert!(sites.is_sorted());
        let keys: Vec<_> = sites.iter().map(Site::to_string).collect();
        assert_eq!(keys.len(), 1 + 2 * 16 + 2);
        assert_eq!(keys[..2], ["embedding_output", "layer_00.input_layernorm"]);
        assert_eq!(keys[16..18], ["layer_00_output", "layer_01.input_layernorm"]);
        assert_eq!(keys[32..], ["layer_01_output", "final_norm_output", "logits"]);
        let outputs: Vec<_> = sites.into_iter().filter(|site| !site.is_inner()).collect();
        let steps: Vec<_> = (0..5).map(|steps| Site::output(steps, 2)).collect();
        assert_eq!(outputs, steps);
    }

    #[test]
    fn names_go_both_ways() {
        for site in Site::all(101) {
            assert_eq!(site.to_string().parse(), Ok(site));
        }
        for none in [
            "",
            "layer_",
            "layer_00",
            "layer_0_output",
            "layer_000_output",
            "layer_00.output",
            "layer_00_mlp",
            "layer_00.logits",
            "mlp",
            "logits_",
            "layer_99999999999999999999_output",
        ] {
            assert!(none.parse::<Site>().is_err(), "{none}");
        }
    }

    /// The oracle's list is this one.
    #[test]
    fn the_oracle_has_the_same_taps() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/qwen3_oracle/taps.py");
        let text = std::fs::read_to_string(file).unwrap();
        let (_, list) = text.split_once("TAPS = (").expect("the list");
        let (list, _) = list.split_once(')').expect("its end");
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        let ours = Tap::of_layer().filter(|tap| *tap != Tap::LayerOutput);
        assert_eq!(names, ours.map(Tap::name).collect::<Vec<_>>());
    }
}
