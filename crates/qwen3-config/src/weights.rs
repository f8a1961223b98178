//! The weights of a model: the keys of its checkpoint and their shapes.

use crate::{Experts, FeedForwardKind, Qwen3Config};

/// The key of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The key of an untied head.
pub const HEAD: &str = "lm_head.weight";
/// The key of the last norm.
pub const FINAL_NORM: &str = "model.norm.weight";

/// The name of a sparse layer's router, whose rows are the experts'.
pub const ROUTER: &str = "mlp.gate.weight";

/// What the names of expert `expert` of a layer begin with.
pub fn expert_name(expert: usize) -> String {
    format!("mlp.experts.{expert}")
}

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
    pub(crate) fn values(&self) -> u128 {
        self.shape.iter().map(|size| *size as u128).product()
    }

    /// Is it a matrix of a projection, which FP8 checkpoints quantise?
    pub(crate) fn is_projection(&self) -> bool {
        self.key.ends_with("_proj.weight")
    }
}

/// The key of a layer's tensor `name`, as in `model.layers.3.mlp.up_proj.weight`.
pub fn layer_key(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}

fn saturated(count: u128) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Qwen3Config {
    /// Every tensor of the checkpoint, in the order in which the model asks for them. A tied head is the
    /// embedding, and is not listed.
    ///
    /// Follows the `state_dict` of Transformers `Qwen3ForCausalLM`, and of `Qwen3MoeForCausalLM` as Transformers 4
    /// had it and checkpoints are stored: a tensor for each expert.
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
    pub fn layer_weights(&self, layer: usize) -> impl Iterator<Item = Weight> {
        self.attention_weights(layer).into_iter().chain(self.feed_forward_weights(layer))
    }

    /// Those of a layer's norms and attention.
    fn attention_weights(&self, layer: usize) -> Vec<Weight> {
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
        weights
    }

    /// Those of a layer's feed-forward block. There may be more experts than can be listed.
    fn feed_forward_weights(&self, layer: usize) -> impl Iterator<Item = Weight> {
        let hidden = self.hidden_size;
        let (router, blocks, inner) = match self.layer(layer).feed_forward {
            FeedForwardKind::Dense { intermediate_size } => (None, 1, intermediate_size),
            FeedForwardKind::Sparse(experts) => {
                let router = Weight::new(layer_key(layer, ROUTER), &[experts.count, hidden]);
                (Some(router), experts.count, experts.intermediate_size)
            }
        };
        let sparse = router.is_some();
        let block = move |block| {
            let prefix = if sparse { expert_name(block) } else { "mlp".into() };
            let shapes = [
                ("gate_proj", [inner, hidden]),
                ("up_proj", [inner, hidden]),
                ("down_proj", [hidden, inner]),
            ];
            let key = move |name| layer_key(layer, &format!("{prefix}.{name}.weight"));
            shapes.into_iter().map(move |(name, shape)| Weight::new(key(name), &shape))
        };
        router.into_iter().chain((0..blocks).flat_map(block))
    }

    /// Parameters of the model, a tied head counted once; `usize::MAX` when there are more.
    pub fn num_parameters(&self) -> usize {
        self.parameters(|experts| experts.count)
    }

    /// Those of them that a token passes through: with experts, fewer.
    pub fn num_active_parameters(&self) -> usize {
        self.parameters(|experts| experts.per_token)
    }

    /// The parameters when of a sparse layer so many experts count.
    fn parameters(&self, counted: impl Fn(Experts) -> usize) -> usize {
        let hidden = self.hidden_size as u128;
        let vocab = hidden * self.vocab_size as u128 * if self.tie_word_embeddings { 1 } else { 2 };
        // Layers are alike but for their blocks, and there may be more of them than can be listed.
        let attention = self.attention_parameters().saturating_mul(self.num_hidden_layers as u128);
        let blocks = (0..self.num_hidden_layers).map(|layer| self.feed_forward_parameters(layer, &counted));
        saturated(blocks.fold(attention.saturating_add(vocab + hidden), u128::saturating_add))
    }

    /// The parameters of decoder layer `layer`.
    pub fn layer_parameters(&self, layer: usize) -> usize {
        self.parameters_of_layer(layer, |experts| experts.count)
    }

    /// Those of them that a token passes through.
    pub fn layer_active_parameters(&self, layer: usize) -> usize {
        self.parameters_of_layer(layer, |experts| experts.per_token)
    }

    /// Those of a layer when so many of its experts count.
    fn parameters_of_layer(&self, layer: usize, counted: impl Fn(Experts) -> usize) -> usize {
        let blocks = self.feed_forward_parameters(layer, &counted);
        saturated(self.attention_parameters().saturating_add(blocks))
    }

    /// Those of a layer's norms and attention.
    fn attention_parameters(&self) -> u128 {
        self.attention_weights(0).iter().map(Weight::values).sum()
    }

    /// Those of a layer's feed-forward block, of so many of its experts. There may be more than can be listed.
    fn feed_forward_parameters(&self, layer: usize, counted: &impl Fn(Experts) -> usize) -> u128 {
        let hidden = self.hidden_size as u128;
        let block = |inner: usize| 3 * inner as u128 * hidden;
        match self.layer(layer).feed_forward {
            FeedForwardKind::Dense { intermediate_size } => block(intermediate_size),
            FeedForwardKind::Sparse(experts) => {
                let blocks = (counted(experts) as u128).saturating_mul(block(experts.intermediate_size));
                blocks.saturating_add(experts.count as u128 * hidden)
            }
        }
    }
}
