use std::collections::BTreeSet;

use crate::{Experts, Precision, Qwen3Config, Rope, SparseLayers, Windows};

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
            windows: Windows::None,
            sparse: None,
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
    /// The first layer looks back to the first token, the others over five tokens. The checkpoint `window`.
    pub fn tiny_windows() -> Self {
        Self { windows: Windows::From { layer: 1, window: 5 }, ..Self::tiny() }
    }

    /// Made for 12 tokens and stretched to 48, untied. The checkpoint `yarn`.
    pub fn tiny_yarn() -> Self {
        Self {
            num_attention_heads: 4,
            max_position_embeddings: 48,
            rope: Rope::Yarn {
                theta: 1e4,
                factor: 4.0,
                original: 12,
                attention_factor: 0.1 * 4_f64.ln() + 1.0,
                beta_fast: 8.0,
                beta_slow: 0.5,
                truncate: true,
            },
            tie_word_embeddings: false,
            dtype: Some(Precision::F32),
            ..Self::tiny()
        }
    }

    /// Made for 4,096 tokens and stretched to 40,960; windows of six tokens in the first and the last of three layers.
    /// The checkpoint `window-yarn`.
    pub fn tiny_windows_yarn() -> Self {
        Self {
            num_hidden_layers: 3,
            rope: Rope::Yarn {
                theta: 1e6,
                factor: 10.0,
                original: 4096,
                attention_factor: 1.25,
                beta_fast: 16.0,
                beta_slow: 2.0,
                truncate: false,
            },
            windows: Windows::Listed { layers: vec![true, false, true], window: 6 },
            ..Self::tiny_long_context()
        }
    }

    /// Experts in every layer, eight of which a token is sent to two, whose weights are divided by their sum. The
    /// checkpoint `experts`.
    pub fn tiny_experts() -> Self {
        let experts = Experts { count: 8, per_token: 2, intermediate_size: 24, normalised: true };
        Self { sparse: Some(SparseLayers { experts, step: 1, dense: BTreeSet::new() }), ..Self::tiny() }
    }

    /// Experts in the second of four layers, six of which a token is sent to three; windows of six tokens, untied. The
    /// checkpoint `experts-mixed`, which stores all experts of a layer as one tensor.
    pub fn tiny_experts_mixed() -> Self {
        let experts = Experts { count: 6, per_token: 3, intermediate_size: 32, normalised: false };
        Self {
            intermediate_size: 48,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            rms_norm_eps: 1e-5,
            rope: Rope::Default { theta: 1e4 },
            windows: Windows::From { layer: 0, window: 6 },
            sparse: Some(SparseLayers { experts, step: 2, dense: BTreeSet::from([3]) }),
            tie_word_embeddings: false,
            dtype: Some(Precision::F32),
            ..Self::tiny()
        }
    }
}
