//! The shapes of the official models.

use serde_json::{Map, Value, json};

use crate::Qwen3Config;

/// An official model of the family. Base models, instruction-tuned ones and those of later dates share these shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Official {
    /// Its name on the hub, without its owner.
    pub name: &'static str,
    /// What its `config.json` has unlike the others', in JSON.
    fields: &'static str,
}

/// All of them, a line each: the smallest first.
#[rustfmt::skip]
const ALL: &[Official] = &[
    Official { name: "Qwen3-0.6B", fields: r#"{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "tie_word_embeddings": true}"# },
    Official { name: "Qwen3-1.7B", fields: r#"{"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16, "tie_word_embeddings": true}"# },
    Official { name: "Qwen3-4B", fields: r#"{"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "tie_word_embeddings": true}"# },
    Official { name: "Qwen3-8B", fields: r#"{"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}"# },
    Official { name: "Qwen3-14B", fields: r#"{"hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40, "num_attention_heads": 40}"# },
    Official { name: "Qwen3-32B", fields: r#"{"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64}"# },
    Official { name: "Qwen3-30B-A3B", fields: r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": true}"# },
    Official { name: "Qwen3-235B-A22B-Instruct-2507", fields: r#"{"model_type": "qwen3_moe", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "norm_topk_prob": true, "max_position_embeddings": 262144, "rope_theta": 5000000.0}"# },
    Official { name: "Qwen3-Embedding-0.6B", fields: r#"{"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "tie_word_embeddings": true, "vocab_size": 151669}"# },
];

impl Official {
    /// All that are known here.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// The model of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|official| official.name == name)
    }

    /// Its architecture.
    pub fn config(self) -> Qwen3Config {
        let mut config = json!({
            "model_type": "qwen3", "vocab_size": 151_936, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 40_960, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "torch_dtype": "bfloat16",
        });
        let own: Map<String, Value> = serde_json::from_str(self.fields).expect("written here");
        config.as_object_mut().expect("just made").extend(own);
        Qwen3Config::from_json(&config.to_string()).expect("official configs are read")
    }
}
