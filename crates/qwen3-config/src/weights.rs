//! The weights of a model: the keys of its checkpoint and their shapes.

use crate::{FeedForwardKind, Qwen3Config};

/// The key of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The key of an untied head.
pub const HEAD: &str = "lm_head.weight";
/// The key of the last norm.
pub const FINAL_NORM: &str = "model.norm.weight";

/// A tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Its key in the checkpoint.
    pub key: String,
    /// Its shape; matrices are `[out, in]`.
    pub shape: Vec<usize>,
}

impl Weight {
    fn new(key: impl Into<String>, shape: &[usize]) -> Self {
        Self { key: key.into(), shape: shape.into() }
    }

    /// How many values it has; no overflow, since every size of a config is bounded.
    fn values(&self) -> u128 {
        self.shape.iter().map(|size| *size as u128).product()
    }
}

/// The key of a layer's tensor `name`, as in `model.layers.3.mlp.up_proj.weight`.
pub fn layer_key(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}

impl Qwen3Config {
    /// Every tensor of the checkpoint, in the order in which the model asks for them. A tied head is the
    /// embedding, and is not listed.
    ///
    /// Follows the `state_dict` of Transformers `Qwen3ForCausalLM`.
    pub fn weights(&self) -> impl Iterator<Item = Weight> {
        let vocab = [self.vocab_size, self.hidden_size];
        let head = (!self.tie_word_embeddings).then(|| Weight::new(HEAD, &vocab));
        let layers = (0..self.num_hidden_layers).flat_map(|layer| self.layer_weights(layer));
        [Weight::new(EMBEDDING, &vocab)]
            .into_iter()
            .chain(layers)
            .chain([Weight::new(FINAL_NORM, &[self.hidden_size])])
            .chain(head)
    }

    /// The tensors of decoder layer `layer`, as in [`weights`](Self::weights).
    pub fn layer_weights(&self, layer: usize) -> Vec<Weight> {
        let hidden = self.hidden_size;
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let mut weights = Vec::new();
        let mut add = |name: &str, shape: &[usize]| {
            weights.push(Weight::new(layer_key(layer, name), shape));
        };
        add("input_layernorm.weight", &[hidden]);
        for (name, out, input) in [
            ("q_proj", queries, hidden),
            ("k_proj", keys, hidden),
            ("v_proj", keys, hidden),
            ("o_proj", hidden, queries),
        ] {
            add(&format!("self_attn.{name}.weight"), &[out, input]);
            if self.attention_bias {
                add(&format!("self_attn.{name}.bias"), &[out]);
            }
        }
        add("self_attn.q_norm.weight", &[self.head_dim]);
        add("self_attn.k_norm.weight", &[self.head_dim]);
        add("post_attention_layernorm.weight", &[hidden]);
        match self.layer(layer).feed_forward {
            FeedForwardKind::Dense { intermediate_size: inner } => {
                add("mlp.gate_proj.weight", &[inner, hidden]);
                add("mlp.up_proj.weight", &[inner, hidden]);
                add("mlp.down_proj.weight", &[hidden, inner]);
            }
        }
        weights
    }

    /// Parameters of the model, a tied head counted once; `usize::MAX` when there are more.
    pub fn num_parameters(&self) -> usize {
        // Layers are alike; a config may ask for more of them than can be listed.
        let values = |weights: Vec<Weight>| weights.iter().map(Weight::values).sum::<u128>();
        let (hidden, layers) = (self.hidden_size as u128, self.num_hidden_layers as u128);
        let vocab = hidden * self.vocab_size as u128 * if self.tie_word_embeddings { 1 } else { 2 };
        let all = layers.saturating_mul(values(self.layer_weights(0)));
        usize::try_from(all.saturating_add(vocab + hidden)).unwrap_or(usize::MAX)
    }
}
