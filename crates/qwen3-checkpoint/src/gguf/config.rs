//! `config.json` of what a GGUF file says.

use gguf_rs_lib::format::{Metadata, MetadataValue};
use qwen3_config::{EMBEDDING, HEAD, Qwen3Config, layer_key};
use serde_json::{Map, Value, json};

use super::GgufFile;
use crate::CheckpointError;

/// The architecture that is read.
const ARCHITECTURE: &str = "qwen3";

/// Where a number of the metadata, behind the architecture's name, goes.
const SIZES: [(&str, &str); 6] = [
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("context_length", "max_position_embeddings"),
];

impl GgufFile {
    /// The architecture: sizes of the metadata; the vocabulary, biases and whether the head is tied of the tensors.
    ///
    /// # Errors
    /// When it is not a dense Qwen3, a value is missing or of another type, or the config is refused.
    pub(crate) fn config(&self) -> Result<Qwen3Config, CheckpointError> {
        let malformed = |reason: String| CheckpointError::Malformed { file: self.path().into(), reason };
        let fields = Fields(self.metadata());
        let config = fields.config(self).map_err(malformed)?;
        Qwen3Config::from_json(&Value::Object(config).to_string())
            .map_err(|source| CheckpointError::Config { file: self.path().into(), source })
    }
}

/// The metadata by its keys behind the architecture's name.
struct Fields<'a>(&'a Metadata);

impl Fields<'_> {
    fn config(&self, file: &GgufFile) -> Result<Map<String, Value>, String> {
        match self.0.get_string("general.architecture") {
            Some(ARCHITECTURE) => {}
            found => {
                let found = found.map_or("absent".into(), |name| format!("{name:?}"));
                return Err(format!(
                    "general.architecture is {found}; of GGUF files only \"qwen3\" (dense) is read"
                ));
            }
        }
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| config.insert(key.into(), value);
        put("model_type", json!("qwen3"));
        put("architectures", json!(["Qwen3ForCausalLM"]));
        for (name, field) in SIZES {
            put(field, json!(self.size(name)?));
        }
        let (keys, values) = (self.size("attention.key_length")?, self.size("attention.value_length")?);
        if keys != values {
            return Err(format!("keys of {keys} values and values of {values}: a Qwen3 has as many of both"));
        }
        put("head_dim", json!(keys));
        put("rms_norm_eps", self.float("attention.layer_norm_rms_epsilon")?);
        put("rope_theta", self.float("rope.freq_base")?);
        if let Some(scaling) = self.scaling()? {
            put("rope_scaling", scaling);
        }
        let rows = file.header(EMBEDDING).and_then(|(_, shape)| shape.first().copied());
        put("vocab_size", json!(rows.ok_or("no tensor `token_embd.weight`")?));
        put("attention_bias", json!(file.header(&layer_key(0, "self_attn.q_proj.bias")).is_some()));
        // llama.cpp takes the embedding where there is no output.
        put("tie_word_embeddings", json!(file.header(HEAD).is_none()));
        Ok(config)
    }

    fn get(&self, name: &str) -> Option<&MetadataValue> {
        self.0.get(&format!("{ARCHITECTURE}.{name}"))
    }

    fn missing(name: &str) -> String {
        format!("{ARCHITECTURE}.{name} is missing, or of another type")
    }

    fn size(&self, name: &str) -> Result<u64, String> {
        self.get(name).and_then(MetadataValue::as_u64).ok_or_else(|| Self::missing(name))
    }

    fn float(&self, name: &str) -> Result<Value, String> {
        self.get(name).and_then(number).ok_or_else(|| Self::missing(name))
    }

    /// How rotary frequencies are scaled.
    fn scaling(&self) -> Result<Option<Value>, String> {
        let kind = match self.get("rope.scaling.type") {
            None => return Ok(None),
            Some(kind) => kind.as_str().ok_or_else(|| Self::missing("rope.scaling.type"))?,
        };
        match kind {
            "none" => return Ok(None),
            "linear" | "yarn" => {}
            other => {
                return Err(format!(
                    "{ARCHITECTURE}.rope.scaling.type is {other:?}; only none, linear and yarn are read"
                ));
            }
        }
        let mut scaling = json!({ "rope_type": kind, "factor": self.float("rope.scaling.factor")? });
        if kind == "yarn" {
            for (name, field) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
                if let Some(value) = self.get(&format!("rope.scaling.{name}")).and_then(number) {
                    scaling[field] = value;
                }
            }
            let original = self.size("rope.scaling.original_context_length")?;
            scaling["original_max_position_embeddings"] = json!(original);
        }
        Ok(Some(scaling))
    }
}

/// A number as it was written before it was rounded to f32: 1e-6, not 9.99999997e-7.
fn number(value: &MetadataValue) -> Option<Value> {
    let text = match value {
        MetadataValue::F32(value) => value.to_string(),
        other => other.as_f64()?.to_string(),
    };
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| json!(value))
}
