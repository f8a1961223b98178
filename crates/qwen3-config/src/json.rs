//! A `config.json` as it is written, before its fields are held against each other.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::architecture::{check_architecture, is_known};
use crate::checked::{Checked, deserialize, given, required};
use crate::error::{ConfigError, unsupported};
use crate::{Precision, Qwen3Config, Rope};

/// The fields that are read, in the spellings of Transformers 4 and 5. `null` counts as absent.
#[derive(Deserialize)]
pub(crate) struct ConfigJson {
    vocab_size: Option<Checked<usize>>,
    hidden_size: Option<Checked<usize>>,
    intermediate_size: Option<Checked<usize>>,
    num_hidden_layers: Option<Checked<usize>>,
    num_attention_heads: Option<Checked<usize>>,
    num_key_value_heads: Option<Checked<usize>>,
    head_dim: Option<Checked<usize>>,
    max_position_embeddings: Option<Checked<usize>>,
    rms_norm_eps: Option<Checked<f64>>,
    attention_bias: Option<Checked<bool>>,
    tie_word_embeddings: Option<Checked<bool>>,
    torch_dtype: Option<Checked<Precision>>,
    dtype: Option<Checked<Precision>>,
    sliding_window: Option<Checked<usize>>,
    use_sliding_window: Option<Checked<bool>>,
    max_window_layers: Option<Checked<u64>>,
    layer_types: Option<Checked<Vec<Value>>>,
    rope_theta: Option<Checked<f64>>,
    partial_rotary_factor: Option<Value>,
    rope_scaling: Option<RopeJson>,
    rope_parameters: Option<RopeJson>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `rope_parameters` (Transformers 5) or `rope_scaling` (4).
#[derive(Deserialize)]
#[serde(expecting = "an object or null")]
struct RopeJson {
    rope_type: Option<Value>,
    #[serde(rename = "type")]
    old_type: Option<Value>,
    rope_theta: Option<Checked<f64>>,
    partial_rotary_factor: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ConfigJson {
    /// Reads the text of a `config.json`. That the architecture is the right one is checked first, so that
    /// nothing is said of the fields of another.
    pub(crate) fn read(text: &str) -> Result<Self, ConfigError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            ConfigError::Json { message }
        })?;
        check_architecture(&object)?;
        deserialize(&Value::Object(object))
    }

    /// Refuses sliding-window layers, in either spelling.
    fn check_full_attention(&self, layers: usize) -> Result<(), ConfigError> {
        let sliding = given(&self.use_sliding_window).is_some_and(|on| on) && self.sliding_window.is_some();
        if let Some(Checked(types)) = &self.layer_types {
            if types.len() != layers {
                return Err(ConfigError::Contradiction {
                    first: "layer_types",
                    second: "num_hidden_layers",
                    detail: format!("{} types for {layers} layers", types.len()),
                });
            }
            if let Some(other) = types.iter().find(|name| *name != "full_attention") {
                return Err(unsupported("layer_types", other, "only \"full_attention\""));
            }
        } else if sliding && given(&self.max_window_layers).unwrap_or(28) < layers as u64 {
            let supported = "only false; every layer attends to everything";
            return Err(unsupported("use_sliding_window", &Value::Bool(true), supported));
        }
        Ok(())
    }

    /// The rotary base, which may be told in three places.
    fn rope(&self) -> Result<Rope, ConfigError> {
        if let Some(value) = &self.partial_rotary_factor
            && value.as_f64() != Some(1.0)
        {
            return Err(unsupported("partial_rotary_factor", value, "only 1.0"));
        }
        let mut thetas = Vec::from_iter(given(&self.rope_theta).map(|theta| ("rope_theta", theta)));
        for (field, path, object) in [
            ("rope_scaling", "rope_scaling.rope_theta", &self.rope_scaling),
            ("rope_parameters", "rope_parameters.rope_theta", &self.rope_parameters),
        ] {
            if let Some(object) = object {
                object.check_default(field)?;
                thetas.extend(given(&object.rope_theta).map(|theta| (path, theta)));
            }
        }
        // The default of Transformers' `rope_theta`.
        let (first, theta) = thetas.first().copied().unwrap_or(("rope_theta", 10_000.0));
        match thetas.iter().find(|other| other.1 != theta) {
            None => Ok(Rope::Default { theta }),
            Some((second, other)) => {
                Err(ConfigError::Contradiction { first, second, detail: format!("{theta} and {other}") })
            }
        }
    }

    fn dtype(&self) -> Result<Option<Precision>, ConfigError> {
        match (given(&self.torch_dtype), given(&self.dtype)) {
            (Some(old), Some(new)) if old != new => Err(ConfigError::Contradiction {
                first: "torch_dtype",
                second: "dtype",
                detail: format!("{old:?} and {new:?}"),
            }),
            (old, new) => Ok(new.or(old)),
        }
    }

    fn unrecognized(self) -> Vec<String> {
        self.rest.into_iter().map(|(name, _)| name).filter(|name| !is_known(name)).collect()
    }
}

impl RopeJson {
    /// Only the default type is known, and no setting but the base goes with it.
    fn check_default(&self, field: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, value: &Value, supported: &str| {
            Err(unsupported(&format!("{field}.{key}"), value, supported))
        };
        for (key, kind) in [("rope_type", &self.rope_type), ("type", &self.old_type)] {
            if let Some(kind) = kind.as_ref().filter(|kind| *kind != "default") {
                return refuse(key, kind, "only \"default\"");
            }
        }
        let supported = "only `rope_type` \"default\" and `rope_theta`";
        match (&self.partial_rotary_factor, self.rest.iter().find(|(_, value)| !value.is_null())) {
            (Some(value), _) if value.as_f64() != Some(1.0) => {
                refuse("partial_rotary_factor", value, supported)
            }
            (_, Some((key, value))) => refuse(key, value, supported),
            _ => Ok(()),
        }
    }
}

impl TryFrom<ConfigJson> for Qwen3Config {
    type Error = ConfigError;

    fn try_from(json: ConfigJson) -> Result<Self, ConfigError> {
        let num_attention_heads = required("num_attention_heads", &json.num_attention_heads)?;
        let num_hidden_layers = required("num_hidden_layers", &json.num_hidden_layers)?;
        json.check_full_attention(num_hidden_layers)?;
        let config = Self {
            vocab_size: required("vocab_size", &json.vocab_size)?,
            hidden_size: required("hidden_size", &json.hidden_size)?,
            intermediate_size: required("intermediate_size", &json.intermediate_size)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: given(&json.num_key_value_heads).unwrap_or(num_attention_heads),
            head_dim: given(&json.head_dim).unwrap_or(128),
            max_position_embeddings: given(&json.max_position_embeddings).unwrap_or(32_768),
            rms_norm_eps: given(&json.rms_norm_eps).unwrap_or(1e-6),
            rope: json.rope()?,
            attention_bias: given(&json.attention_bias).unwrap_or(false),
            tie_word_embeddings: given(&json.tie_word_embeddings).unwrap_or(false),
            dtype: json.dtype()?,
            unrecognized: json.unrecognized(),
        };
        config.check_sizes()?;
        Ok(config)
    }
}
