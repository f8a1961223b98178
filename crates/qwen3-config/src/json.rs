//! A `config.json` as it is written, before its fields are held against each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::architecture::{Architecture, DENSE, EXPERTS, check_architecture, is_known};
use crate::checked::{Checked, deserialize, given, required};
use crate::error::{ConfigError, contradiction, unsupported};
use crate::rope_json::{self, RopeJson};
use crate::{Experts, Precision, Qwen3Config, Rope, SparseLayers, Windows};

/// The defaults of Transformers' `sliding_window` and `max_window_layers`.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_FULL_LAYERS: u64 = 28;

/// The fields that are read, in the spellings of Transformers 4 and 5. `null` counts as absent.
#[derive(Deserialize)]
pub(crate) struct ConfigJson {
    vocab_size: Option<Checked<usize>>,
    hidden_size: Option<Checked<usize>>,
    intermediate_size: Option<Checked<usize>>,
    /// Of experts, in either spelling.
    num_experts: Option<Checked<usize>>,
    num_local_experts: Option<Checked<usize>>,
    num_experts_per_tok: Option<Checked<usize>>,
    moe_intermediate_size: Option<Checked<usize>>,
    norm_topk_prob: Option<Checked<bool>>,
    decoder_sparse_step: Option<Checked<usize>>,
    mlp_only_layers: Option<Checked<BTreeSet<usize>>>,
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
    /// `null` is no window, absence is Transformers' default.
    #[serde(default, deserialize_with = "said")]
    sliding_window: Option<Option<Checked<usize>>>,
    use_sliding_window: Option<Checked<bool>>,
    max_window_layers: Option<Checked<u64>>,
    layer_types: Option<Checked<Vec<Value>>>,
    rope_theta: Option<Checked<f64>>,
    partial_rotary_factor: Option<Value>,
    rope_scaling: Option<RopeJson>,
    rope_parameters: Option<RopeJson>,
    /// Which it is: no field, but what the fields say together.
    #[serde(skip, default = "dense")]
    architecture: &'static Architecture,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn dense() -> &'static Architecture {
    &DENSE
}

/// Tells `null` from absence.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ConfigJson {
    /// Reads the text of a `config.json`. That the architecture is the right one is checked first, so that
    /// nothing is said of the fields of another.
    pub(crate) fn read(text: &str) -> Result<Self, ConfigError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            ConfigError::Json { message }
        })?;
        let architecture = check_architecture(&object)?;
        Ok(Self { architecture, ..deserialize(&Value::Object(object))? })
    }

    fn has_experts(&self) -> bool {
        *self.architecture == EXPERTS
    }

    fn sparse(&self) -> Result<Option<SparseLayers>, ConfigError> {
        if !self.has_experts() {
            return Ok(None);
        }
        let count = match (given(&self.num_experts), given(&self.num_local_experts)) {
            (Some(one), Some(other)) if one != other => {
                let detail = format!("{one} and {other}");
                return Err(contradiction("num_experts", "num_local_experts", detail));
            }
            (None, Some(count)) => count,
            _ => required("num_experts", &self.num_experts)?,
        };
        let experts = Experts {
            count,
            per_token: required("num_experts_per_tok", &self.num_experts_per_tok)?,
            intermediate_size: required("moe_intermediate_size", &self.moe_intermediate_size)?,
            normalised: given(&self.norm_topk_prob).unwrap_or(false),
        };
        let dense = self.mlp_only_layers.as_ref().map(|Checked(layers)| layers.clone());
        let step = given(&self.decoder_sparse_step).unwrap_or(1);
        SparseLayers { experts, step, dense: dense.unwrap_or_default() }.checked().map(Some)
    }

    fn windows(&self, layers: usize) -> Result<Windows, ConfigError> {
        let on = given(&self.use_sliding_window).unwrap_or(false);
        let window = match &self.sliding_window {
            None => Some(DEFAULT_WINDOW),
            Some(window) => given(window),
        };
        let window = window.filter(|_| on);
        match (&self.layer_types, window) {
            // Transformers `Qwen3MoeModel` makes one mask for all layers, whatever is listed.
            (types, window) if self.has_experts() => {
                let everywhere =
                    window.map_or(Windows::None, |window| Windows::from_layer(0, window, layers));
                let listed = types.as_ref().map(|Checked(types)| Windows::listed(types, window, layers));
                match listed.transpose()? {
                    Some(listed) if listed != everywhere => Err(contradiction(
                        "layer_types",
                        "use_sliding_window",
                        "of a \"qwen3_moe\" all layers have a window, or none".into(),
                    )),
                    _ => Ok(everywhere),
                }
            }
            (Some(Checked(types)), window) => Windows::listed(types, window, layers),
            (None, None) => Ok(Windows::None),
            (None, Some(window)) => {
                let first = given(&self.max_window_layers).unwrap_or(DEFAULT_FULL_LAYERS);
                Ok(Windows::from_layer(usize::try_from(first).unwrap_or(usize::MAX), window, layers))
            }
        }
    }

    /// How positions become angles, which may be told in two places, and their base in three.
    fn rope(&self) -> Result<Rope, ConfigError> {
        if let Some(value) = &self.partial_rotary_factor
            && value.as_f64() != Some(1.0)
        {
            return Err(unsupported("partial_rotary_factor", value, "only 1.0"));
        }
        rope_json::read(
            given(&self.rope_theta),
            [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)],
            self.positions(),
        )
    }

    /// Transformers' defaults, which differ.
    fn head_dim(&self, heads: usize) -> Result<usize, ConfigError> {
        match given(&self.head_dim) {
            None if self.has_experts() => Ok(required("hidden_size", &self.hidden_size)? / heads),
            head_dim => Ok(head_dim.unwrap_or(128)),
        }
    }

    fn positions(&self) -> usize {
        given(&self.max_position_embeddings).unwrap_or(32_768)
    }

    fn dtype(&self) -> Result<Option<Precision>, ConfigError> {
        match (given(&self.torch_dtype), given(&self.dtype)) {
            (Some(old), Some(new)) if old != new => {
                Err(contradiction("torch_dtype", "dtype", format!("{old:?} and {new:?}")))
            }
            (old, new) => Ok(new.or(old)),
        }
    }

    fn unrecognized(self) -> Vec<String> {
        self.rest.into_iter().map(|(name, _)| name).filter(|name| !is_known(name)).collect()
    }
}

impl TryFrom<ConfigJson> for Qwen3Config {
    type Error = ConfigError;

    fn try_from(json: ConfigJson) -> Result<Self, ConfigError> {
        let num_attention_heads = required("num_attention_heads", &json.num_attention_heads)?;
        let num_hidden_layers = required("num_hidden_layers", &json.num_hidden_layers)?;
        let config = Self {
            vocab_size: required("vocab_size", &json.vocab_size)?,
            hidden_size: required("hidden_size", &json.hidden_size)?,
            intermediate_size: required("intermediate_size", &json.intermediate_size)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: given(&json.num_key_value_heads).unwrap_or(num_attention_heads),
            head_dim: json.head_dim(num_attention_heads)?,
            max_position_embeddings: json.positions(),
            rms_norm_eps: given(&json.rms_norm_eps).unwrap_or(1e-6),
            rope: json.rope()?,
            windows: json.windows(num_hidden_layers)?,
            sparse: json.sparse()?,
            attention_bias: given(&json.attention_bias).unwrap_or(false),
            tie_word_embeddings: given(&json.tie_word_embeddings).unwrap_or(false),
            dtype: json.dtype()?,
            unrecognized: json.unrecognized(),
        };
        config.check_sizes()?;
        Ok(config)
    }
}
