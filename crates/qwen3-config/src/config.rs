use serde_json::json;

use crate::architecture::{DENSE, EXPERTS};
use crate::error::contradiction;
use crate::json::ConfigJson;
use crate::{ConfigError, Extent, FeedForwardKind, LayerKind, Precision, Rope, SparseLayers, Windows};

/// The architecture of a Qwen3 model, dense or with experts.
///
/// Follows Transformers `Qwen3Config` and `Qwen3MoeConfig`; absent fields take its defaults where it has sensible ones.
/// The Transformers 4 (`rope_theta`, `torch_dtype`) and 5 (`rope_parameters`, `dtype`) spellings are
/// both read. Values are checked once, here, so that layers can rely on them.
///
/// ```
/// use qwen3_config::{Precision, Qwen3Config};
/// let text = r#"{"model_type": "qwen3", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96,
///     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}"#;
/// let config = Qwen3Config::from_json(text).unwrap();
/// assert_eq!(config.num_parameters(), 127_360);
/// assert_eq!(Qwen3Config::from_json(&config.to_json()).unwrap(), config);
/// // Errors name the field.
/// let error = Qwen3Config::from_json(&text.replace("96", "-1")).unwrap_err();
/// assert!(error.to_string().contains("intermediate_size"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Config {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Features of the residual stream.
    pub hidden_size: usize,
    /// Features inside the feed-forward block of a dense layer.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Features of a head, even; independent of `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Largest number of tokens the model was made for.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// How positions become angles.
    pub rope: Rope,
    /// Which layers look back over a window only.
    pub windows: Windows,
    /// Which layers have experts; none in a dense model.
    pub sparse: Option<SparseLayers>,
    /// Whether q, k, v and o projections have a bias.
    pub attention_bias: bool,
    /// Whether the embedding serves as the head.
    pub tie_word_embeddings: bool,
    /// The dtype the checkpoint says it is in.
    pub dtype: Option<Precision>,
    /// Fields that neither this crate nor `Qwen3Config` knows, for the caller to report.
    pub unrecognized: Vec<String>,
}

impl Qwen3Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Names the field that is missing, malformed, contradictory, or asks for something that this
    /// crate does not implement (another `model_type`, activation, RoPE scaling or quantisation).
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        ConfigJson::read(text)?.try_into()
    }

    /// The `config.json` of this architecture, in the Transformers 4 spelling that every reader
    /// accepts. Reading it back gives the same config, less unrecognised fields.
    pub fn to_json(&self) -> String {
        self.to_json_of(Extent::Whole)
    }

    /// The same of so much of a model: the class that Transformers loads it as is another without a head.
    pub fn to_json_of(&self, extent: Extent) -> String {
        let architecture = if self.sparse.is_some() { &EXPERTS } else { &DENSE };
        let class = match extent {
            Extent::Whole => architecture.causal_lm,
            Extent::Encoder => architecture.encoder,
        };
        let mut config = json!({
            "architectures": [class],
            "attention_bias": self.attention_bias,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": architecture.model_type,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": self.rope.scaling(),
            "rope_theta": self.rope.theta(),
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": self.dtype.map(Precision::torch_name),
            "vocab_size": self.vocab_size,
        });
        let object = config.as_object_mut().expect("just made");
        object.extend(self.windows.fields(self.num_hidden_layers));
        object.extend(self.sparse.iter().flat_map(SparseLayers::fields));
        format!("{config:#}\n")
    }

    /// The largest number of tokens that positions are made for: `max_position_embeddings`, or what YaRN stretches
    /// its original number to, when that is more.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings.max(self.rope.tokens().unwrap_or(0))
    }

    /// What kind of layer number `index` is.
    pub fn layer(&self, index: usize) -> LayerKind {
        LayerKind {
            reach: self.windows.reach(index),
            feed_forward: match &self.sparse {
                Some(sparse) if sparse.contains(index) => FeedForwardKind::Sparse(sparse.experts),
                _ => FeedForwardKind::Dense { intermediate_size: self.intermediate_size },
            },
        }
    }

    /// Checks what sizes have to do with each other.
    pub(crate) fn check_sizes(&self) -> Result<(), ConfigError> {
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let detail = format!(
                "{} query heads cannot share {} key and value heads evenly",
                self.num_attention_heads, self.num_key_value_heads
            );
            return Err(contradiction("num_attention_heads", "num_key_value_heads", detail));
        }
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::Invalid {
                field: "head_dim".into(),
                found: self.head_dim.to_string(),
                expected: "an even number of at least 2, because RoPE rotates pairs".into(),
            });
        }
        Ok(())
    }
}
