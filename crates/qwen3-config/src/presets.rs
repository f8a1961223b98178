use crate::{Precision, Qwen3Config, Rope};

/// Architectures small enough for tests, to be built from `RandomWeights` of qwen3-model.
///
/// Together they take every branch: grouped and plain heads, tied and untied heads of the model,
/// biases, a `head_dim` that is not `hidden_size / num_attention_heads`, and thetas and epsilons that
/// are no defaults. They are the configs of the checkpoints in `fixtures/checkpoints`, whose numbers
/// come from Transformers.
impl Qwen3Config {
    /// Eight query heads on two key heads, 8 * 16 features of heads on 64 of the residual stream, tied.
    /// The checkpoint `gqa-tied`.
    pub fn tiny() -> Self {
        Self {
            vocab_size: 256,
            hidden_size: 64,
            intermediate_size: 96,
            num_hidden_layers: 3,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 16,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-6,
            rope: Rope::Default { theta: 1e6 },
            attention_bias: false,
            tie_word_embeddings: true,
            dtype: Some(Precision::BF16),
            unrecognized: Vec::new(),
        }
    }

    /// As many key heads as query heads, `head_dim` 24, untied. The checkpoint `mha-untied`.
    pub fn tiny_mha() -> Self {
        Self {
            vocab_size: 200,
            hidden_size: 80,
            intermediate_size: 112,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 24,
            rms_norm_eps: 1e-5,
            rope: Rope::Default { theta: 5e5 },
            tie_word_embeddings: false,
            dtype: Some(Precision::F32),
            ..Self::tiny()
        }
    }

    /// Four query heads on two key heads, untied; the weights of keys and values are square, so that a
    /// transposition does not show in their shapes. The checkpoint `gqa-sharded`.
    pub fn tiny_untied() -> Self {
        Self {
            vocab_size: 320,
            num_attention_heads: 4,
            head_dim: 32,
            tie_word_embeddings: false,
            dtype: Some(Precision::F16),
            ..Self::tiny()
        }
    }

    /// Six query heads on two key heads, biases, tied. The checkpoint `bias-tied`.
    pub fn tiny_biased() -> Self {
        Self {
            vocab_size: 131,
            num_attention_heads: 6,
            rms_norm_eps: 1e-4,
            rope: Rope::Default { theta: 1e4 },
            attention_bias: true,
            ..Self::tiny()
        }
    }

    /// Room for 40,960 tokens, two small layers, tied; the weights of keys and values are square. The
    /// checkpoint `long-context`.
    pub fn tiny_long_context() -> Self {
        Self {
            vocab_size: 64,
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            max_position_embeddings: 40_960,
            ..Self::tiny()
        }
    }
}
