use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::Precision;

/// Fields of `config.json` that say nothing about the forward pass: bookkeeping, token ids, training
/// and generation settings of Transformers' `PreTrainedConfig` and `Qwen3Config`.
const NO_EFFECT: &[&str] = &[
    "_name_or_path",
    "_attn_implementation",
    "attn_implementation",
    "attention_dropout",
    "auto_map",
    "bos_token_id",
    "chunk_size_feed_forward",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
];

/// Fields that change the computation in a way this crate does not implement, each with the only
/// value that leaves the computation alone. `null` and absence always do.
const ONLY_NEUTRAL: &[(&str, Value)] = &[
    ("quantization_config", Value::Null),
    ("compression_config", Value::Null),
    ("num_experts", Value::Null),
    ("mlp_bias", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("add_cross_attention", Value::Bool(false)),
    ("is_causal", Value::Bool(true)),
];

/// Why a `config.json` was refused. Every error about a field names it.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The text is not a JSON object.
    #[error("not a JSON object: {message}")]
    Json {
        /// The parser's message, with line and column.
        message: String,
    },
    /// A field that has no default is absent.
    #[error("field `{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field's value has the wrong type or lies outside its range.
    #[error("field `{field}` is {found}, expected {expected}")]
    Invalid {
        /// The field.
        field: String,
        /// The value found, as JSON.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// The value is meaningful, but this crate does not implement it.
    #[error("field `{field}` is {found}, which is not supported: {supported}")]
    Unsupported {
        /// The field.
        field: String,
        /// The value found, as JSON.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// Two fields say different things.
    #[error("fields `{first}` and `{second}` disagree: {detail}")]
    Contradiction {
        /// One field.
        first: &'static str,
        /// The other field.
        second: &'static str,
        /// Both values, or the rule they break.
        detail: String,
    },
}

/// The architecture of a dense Qwen3 model.
///
/// Follows Transformers `Qwen3Config`; absent fields take its defaults where it has sensible ones.
/// The Transformers 4 (`rope_theta`, `torch_dtype`) and 5 (`rope_parameters`, `dtype`) spellings are
/// both read. Values are checked once, here, so that layers can rely on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Config {
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Features of the residual stream.
    pub hidden_size: usize,
    /// Features inside the feed-forward block.
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
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
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
    /// crate does not implement (another `model_type`, activation, RoPE scaling, sliding windows,
    /// quantisation, experts).
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| ConfigError::Json {
                message: error.to_string(),
            })?;
        let mut fields = Fields {
            object,
            seen: NO_EFFECT.to_vec(),
        };
        fields.check_architecture()?;

        let num_attention_heads = fields.required_size("num_attention_heads")?;
        let num_hidden_layers = fields.required_size("num_hidden_layers")?;
        fields.check_full_attention(num_hidden_layers)?;
        let mut config = Self {
            vocab_size: fields.required_size("vocab_size")?,
            hidden_size: fields.required_size("hidden_size")?,
            intermediate_size: fields.required_size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: fields
                .size("num_key_value_heads")?
                .unwrap_or(num_attention_heads),
            head_dim: fields.size("head_dim")?.unwrap_or(128),
            max_position_embeddings: fields.size("max_position_embeddings")?.unwrap_or(32_768),
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: fields.rope_theta()?,
            attention_bias: fields.flag("attention_bias")?.unwrap_or(false),
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            dtype: fields.dtype()?,
            unrecognized: Vec::new(),
        };
        config.check_sizes()?;
        config.unrecognized = fields.unrecognized();
        Ok(config)
    }

    /// The `config.json` of this architecture, in the Transformers 4 spelling that every reader
    /// accepts. Reading it back gives the same config, less unrecognised fields.
    pub fn to_json(&self) -> String {
        let config = json!({
            "architectures": ["Qwen3ForCausalLM"],
            "attention_bias": self.attention_bias,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "qwen3",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": self.dtype.map(Precision::torch_name),
            "vocab_size": self.vocab_size,
        });
        format!("{config:#}\n")
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(ConfigError::Contradiction {
                first: "num_attention_heads",
                second: "num_key_value_heads",
                detail: format!(
                    "{} query heads cannot share {} key and value heads evenly",
                    self.num_attention_heads, self.num_key_value_heads
                ),
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::Invalid {
                field: "head_dim".into(),
                found: self.head_dim.to_string(),
                expected: "an even number, because RoPE rotates pairs".into(),
            });
        }
        Ok(())
    }
}

/// The object being read, and the fields that something has looked at.
struct Fields {
    object: Map<String, Value>,
    seen: Vec<&'static str>,
}

impl Fields {
    /// The value of `field`; `null` counts as absent.
    fn get(&mut self, field: &'static str) -> Option<&Value> {
        self.seen.push(field);
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn parse<T>(
        &mut self,
        field: &'static str,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(field)
            .map(|value| parse(value).ok_or_else(|| invalid(field, value, expected)))
            .transpose()
    }

    /// A size: bounded so that products of four sizes cannot overflow 64 bits unnoticed.
    fn size(&mut self, field: &'static str) -> Result<Option<usize>, ConfigError> {
        const MAX: u64 = 1 << 24;
        self.parse(field, "an integer from 1 to 16777216", |value| {
            let size = value.as_u64().filter(|size| (1..=MAX).contains(size))?;
            usize::try_from(size).ok()
        })
    }

    fn required_size(&mut self, field: &'static str) -> Result<usize, ConfigError> {
        self.size(field)?.ok_or(ConfigError::Missing { field })
    }

    fn positive(&mut self, field: &'static str) -> Result<Option<f64>, ConfigError> {
        self.parse(field, "a positive number", positive)
    }

    fn flag(&mut self, field: &'static str) -> Result<Option<bool>, ConfigError> {
        self.parse(field, "true or false", Value::as_bool)
    }

    /// Everything that must have one particular value for this crate's computation to be the right one.
    fn check_architecture(&mut self) -> Result<(), ConfigError> {
        let model_type = self.get("model_type").cloned();
        match model_type {
            Some(value) if value == "qwen3" => {}
            Some(value) => return Err(unsupported("model_type", &value, "only \"qwen3\" (dense)")),
            None => {
                return Err(ConfigError::Missing {
                    field: "model_type",
                });
            }
        }
        if let Some(value) = self.get("architectures") {
            let named = |value: &Value| value == "Qwen3ForCausalLM";
            if !value.as_array().is_some_and(|list| list.iter().any(named)) {
                let supported = "only [\"Qwen3ForCausalLM\"]";
                return Err(unsupported("architectures", value, supported));
            }
        }
        if let Some(value) = self.get("hidden_act")
            && value != "silu"
            && value != "swish"
        {
            return Err(unsupported("hidden_act", value, "only \"silu\""));
        }
        for (field, neutral) in ONLY_NEUTRAL {
            if let Some(value) = self.get(field)
                && value != neutral
            {
                return Err(unsupported(field, value, &format!("only {neutral}")));
            }
        }
        Ok(())
    }

    /// Refuses sliding-window layers, in either spelling.
    fn check_full_attention(&mut self, layers: usize) -> Result<(), ConfigError> {
        let window = self.size("sliding_window")?;
        let sliding = self.flag("use_sliding_window")?.unwrap_or(false) && window.is_some();
        let first = self.parse("max_window_layers", "an integer", Value::as_u64)?;
        if let Some(types) = self.get("layer_types") {
            let Some(list) = types.as_array() else {
                return Err(invalid("layer_types", types, "a list of strings"));
            };
            if list.len() != layers {
                return Err(ConfigError::Contradiction {
                    first: "layer_types",
                    second: "num_hidden_layers",
                    detail: format!("{} types for {layers} layers", list.len()),
                });
            }
            if let Some(other) = list.iter().find(|name| *name != "full_attention") {
                return Err(unsupported("layer_types", other, "only \"full_attention\""));
            }
        } else if sliding && first.unwrap_or(28) < layers as u64 {
            let supported = "only false; every layer attends to everything";
            return Err(unsupported(
                "use_sliding_window",
                &Value::Bool(true),
                supported,
            ));
        }
        Ok(())
    }

    /// The rotary base from `rope_parameters` (Transformers 5) or `rope_theta` and `rope_scaling` (4).
    fn rope_theta(&mut self) -> Result<f64, ConfigError> {
        let old = self.positive("rope_theta")?;
        if let Some(value) = self.get("partial_rotary_factor")
            && value.as_f64() != Some(1.0)
        {
            return Err(unsupported("partial_rotary_factor", value, "only 1.0"));
        }
        let mut thetas = Vec::from_iter(old.map(|theta| ("rope_theta", theta)));
        for (field, path) in [
            ("rope_scaling", "rope_scaling.rope_theta"),
            ("rope_parameters", "rope_parameters.rope_theta"),
        ] {
            if let Some(object) = self.get(field) {
                thetas.extend(rope_object(field, object)?.map(|theta| (path, theta)));
            }
        }
        match thetas[..] {
            // The default of Transformers' `rope_theta`.
            [] => Ok(10_000.0),
            [first, ..] => match thetas.iter().find(|other| other.1 != first.1) {
                None => Ok(first.1),
                Some(other) => Err(ConfigError::Contradiction {
                    first: first.0,
                    second: other.0,
                    detail: format!("{} and {}", first.1, other.1),
                }),
            },
        }
    }

    fn dtype(&mut self) -> Result<Option<Precision>, ConfigError> {
        let expected = "\"bfloat16\", \"float16\" or \"float32\"";
        let named = |value: &Value| {
            let name = value.as_str()?.trim_start_matches("torch.");
            let mut known = Precision::ALL.into_iter();
            known.find(|known| known.torch_name() == name)
        };
        let old = self.parse("torch_dtype", expected, named)?;
        let new = self.parse("dtype", expected, named)?;
        match (old, new) {
            (Some(old), Some(new)) if old != new => Err(ConfigError::Contradiction {
                first: "torch_dtype",
                second: "dtype",
                detail: format!("{old:?} and {new:?}"),
            }),
            _ => Ok(new.or(old)),
        }
    }

    fn unrecognized(&self) -> Vec<String> {
        let mut names = self.object.keys().cloned().collect::<Vec<_>>();
        names.retain(|name| !self.seen.contains(&name.as_str()));
        names
    }
}

/// Checks an object of RoPE settings and returns its `rope_theta`. Only the default type is known, and
/// no setting but the base goes with it.
fn rope_object(field: &'static str, value: &Value) -> Result<Option<f64>, ConfigError> {
    let Some(object) = value.as_object() else {
        return Err(invalid(field, value, "an object or null"));
    };
    for key in ["rope_type", "type"] {
        if let Some(kind) = object
            .get(key)
            .filter(|kind| !kind.is_null() && *kind != "default")
        {
            let path = format!("{field}.{key}");
            return Err(unsupported(&path, kind, "only \"default\""));
        }
    }
    let mut theta = None;
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("{field}.{key}");
        match key.as_str() {
            "rope_type" | "type" => {}
            "rope_theta" => match positive(value) {
                Some(number) => theta = Some(number),
                None => return Err(invalid(&path, value, "a positive number")),
            },
            "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
            _ => {
                let supported = "only `rope_type` \"default\" and `rope_theta`";
                return Err(unsupported(&path, value, supported));
            }
        }
    }
    Ok(theta)
}

fn positive(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .filter(|number| number.is_finite() && *number > 0.0)
}

fn invalid(field: &str, found: &Value, expected: &str) -> ConfigError {
    ConfigError::Invalid {
        field: field.into(),
        found: shorten(found),
        expected: expected.into(),
    }
}

fn unsupported(field: &str, found: &Value, supported: &str) -> ConfigError {
    ConfigError::Unsupported {
        field: field.into(),
        found: shorten(found),
        supported: supported.into(),
    }
}

/// A hostile value must not flood the terminal.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
