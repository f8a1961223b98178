//! A folder in Hugging Face's layout.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use candle_transformers::models::qwen3::Config;
use serde_json::{Map, Value, json};

use crate::Failure;

const INDEX_FILE: &str = "model.safetensors.index.json";

/// The configuration of a dense Qwen3 and its weight files, which exist.
pub struct Checkpoint {
    /// As candle wants it.
    pub config: Config,
    /// One file, or all shards.
    pub files: Vec<PathBuf>,
}

/// The JSON object in a file.
fn read_object(file: &Path) -> Result<Map<String, Value>, Failure> {
    let text =
        fs::read_to_string(file).map_err(|error| Failure::Input(format!("{}: {error}", file.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Input(format!("{} is not a JSON object: {error}", file.display())))
}

/// The configuration, with Transformers' defaults for what candle wants to be there.
fn read_config(file: &Path) -> Result<Config, Failure> {
    let bad = |what: String| Failure::Input(format!("{}: {what}", file.display()));
    let mut values = read_object(file)?;
    if values.get("model_type") != Some(&json!("qwen3")) {
        let found = values.get("model_type").unwrap_or(&Value::Null);
        return Err(bad(format!("not a dense Qwen3 configuration: model_type is {found}")));
    }
    if values.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err(bad("weights that are quantised are not supported".into()));
    }
    // Transformers 5 has the base of RoPE in `rope_parameters`, 4 had it outside.
    let rope =
        ["rope_parameters", "rope_scaling"].iter().find_map(|key| values.get(*key)?.as_object()).cloned();
    if let Some(rope) = rope {
        let kind = ["rope_type", "type"].iter().find_map(|key| rope.get(*key));
        if let Some(kind) = kind.filter(|kind| **kind != json!("default")) {
            return Err(bad(format!("rope_type {kind} is not supported")));
        }
        if let Some(theta) = rope.get("rope_theta") {
            values.insert("rope_theta".into(), theta.clone());
        }
    }
    for (key, default) in [
        ("attention_bias", json!(false)),
        ("hidden_act", json!("silu")),
        ("max_window_layers", json!(0)),
        ("rope_theta", json!(10_000.0)),
        ("sliding_window", json!(null)),
        ("tie_word_embeddings", json!(false)),
        ("use_sliding_window", json!(false)),
    ] {
        values.entry(key).or_insert(default);
    }
    let config: Config = serde_json::from_value(values.into()).map_err(|error| bad(error.to_string()))?;
    for (key, value) in [
        ("vocab_size", config.vocab_size),
        ("max_position_embeddings", config.max_position_embeddings),
        ("num_attention_heads", config.num_attention_heads),
        ("num_key_value_heads", config.num_key_value_heads),
    ] {
        if value == 0 {
            return Err(bad(format!("{key} is 0")));
        }
    }
    if config.use_sliding_window {
        return Err(bad("sliding window attention is not supported".into()));
    }
    Ok(config)
}

impl Checkpoint {
    /// Reads all but the weights.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        if !path.is_dir() {
            return Err(Failure::Input(format!("{} is not a directory", path.display())));
        }
        let config = read_config(&path.join("config.json"))?;
        let index = path.join(INDEX_FILE);
        let files: Vec<_> = if index.is_file() {
            let names = read_object(&index)?.get("weight_map").and_then(Value::as_object).cloned();
            let names: BTreeSet<_> =
                names.iter().flat_map(Map::values).filter_map(Value::as_str).map(String::from).collect();
            if names.is_empty() {
                return Err(Failure::Input(format!("{} has no weight_map", index.display())));
            }
            names.iter().map(|name| path.join(name)).collect()
        } else {
            vec![path.join("model.safetensors")]
        };
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            return Err(Failure::Input(format!("{} not found", missing.display())));
        }
        Ok(Self { config, files })
    }
}
