//! Which fields have to be as they are, and which do not matter.

use serde_json::{Map, Value};

use crate::Fp8Blocks;
use crate::error::{ConfigError, unsupported};

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

/// Fields that say which computation this is; see [`check_architecture`].
const ARCHITECTURE: &[&str] = &["model_type", "architectures", "hidden_act", "quantization_config"];

/// Fields that change the computation in a way this crate does not implement, each with the only
/// value that leaves the computation alone. `null` and absence always do.
const ONLY_NEUTRAL: &[(&str, Value)] = &[
    ("compression_config", Value::Null),
    ("num_experts", Value::Null),
    ("mlp_bias", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("add_cross_attention", Value::Bool(false)),
    ("is_causal", Value::Bool(true)),
];

/// Everything that must have one particular value for this crate's computation to be the right one.
pub(crate) fn check_architecture(object: &Map<String, Value>) -> Result<(), ConfigError> {
    let get = |field| object.get(field).filter(|value| !value.is_null());
    match get("model_type") {
        Some(value) if value == "qwen3" => {}
        Some(value) => return Err(unsupported("model_type", value, "only \"qwen3\" (dense)")),
        None => {
            return Err(ConfigError::Missing { field: "model_type".into() });
        }
    }
    if let Some(value) = get("architectures") {
        let named = |value: &Value| value == "Qwen3ForCausalLM";
        if !value.as_array().is_some_and(|list| list.iter().any(named)) {
            return Err(unsupported("architectures", value, "only [\"Qwen3ForCausalLM\"]"));
        }
    }
    if let Some(value) = get("hidden_act").filter(|value| *value != "silu" && *value != "swish") {
        return Err(unsupported("hidden_act", value, "only \"silu\""));
    }
    for (field, neutral) in ONLY_NEUTRAL {
        if let Some(value) = get(field).filter(|value| *value != neutral) {
            return Err(unsupported(field, value, format!("only {neutral}")));
        }
    }
    // What else it says is for those who read the weights.
    Fp8Blocks::of(object).map(drop)
}

/// Is something known of a field that is not read?
pub(crate) fn is_known(field: &str) -> bool {
    let neutral = ONLY_NEUTRAL.iter().any(|(name, _)| *name == field);
    neutral || NO_EFFECT.contains(&field) || ARCHITECTURE.contains(&field)
}
