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
    "output_router_logits",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "router_aux_loss_coef",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
];

/// A model type, and Transformers' classes that are saved as it: with the head, and without it, as embedding models
/// may be.
#[derive(Debug, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) model_type: &'static str,
    pub(crate) causal_lm: &'static str,
    pub(crate) encoder: &'static str,
}

/// One feed-forward block in every layer.
pub(crate) const DENSE: Architecture =
    Architecture { model_type: "qwen3", causal_lm: "Qwen3ForCausalLM", encoder: "Qwen3Model" };
/// Layers with experts.
pub(crate) const EXPERTS: Architecture =
    Architecture { model_type: "qwen3_moe", causal_lm: "Qwen3MoeForCausalLM", encoder: "Qwen3MoeModel" };

/// Fields that say which computation this is; see [`check_architecture`].
const ARCHITECTURE: &[&str] = &["model_type", "architectures", "hidden_act", "quantization_config"];

/// Fields that change the computation in a way this crate does not implement, each with the only
/// value that leaves the computation alone. `null` and absence always do.
const ONLY_NEUTRAL: &[(&str, Value)] = &[
    ("compression_config", Value::Null),
    ("mlp_bias", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("add_cross_attention", Value::Bool(false)),
    ("is_causal", Value::Bool(true)),
];

/// Which architecture it is. Everything that must have one particular value for this crate's computation to be the
/// right one is checked.
pub(crate) fn check_architecture(object: &Map<String, Value>) -> Result<&'static Architecture, ConfigError> {
    let get = |field| object.get(field).filter(|value| !value.is_null());
    let Some(model_type) = get("model_type") else {
        return Err(ConfigError::Missing { field: "model_type".into() });
    };
    let known = [&DENSE, &EXPERTS].into_iter().find(|known| *model_type == known.model_type);
    let Some(architecture) = known else {
        let supported = "only \"qwen3\" (dense) and \"qwen3_moe\" (experts)";
        return Err(unsupported("model_type", model_type, supported));
    };
    if let Some(value) = get("architectures") {
        let classes = [architecture.causal_lm, architecture.encoder];
        let named = |value: &Value| classes.iter().any(|class| value == class);
        if !value.as_array().is_some_and(|list| list.iter().any(named)) {
            return Err(unsupported("architectures", value, format!("only one of {classes:?}")));
        }
    }
    for field in ["num_experts", "num_local_experts"] {
        if let (true, Some(value)) = (*architecture == DENSE, get(field)) {
            return Err(unsupported(field, value, "only null in a \"qwen3\", which is dense"));
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
    Fp8Blocks::of(object).map(|_| architecture)
}

/// Is something known of a field that is not read?
pub(crate) fn is_known(field: &str) -> bool {
    let neutral = ONLY_NEUTRAL.iter().any(|(name, _)| *name == field);
    neutral || NO_EFFECT.contains(&field) || ARCHITECTURE.contains(&field)
}
