//! The tokenizer of a GGUF file, as the files of a checkpoint.

use std::collections::BTreeMap;

use gguf_rs_lib::format::{Metadata, MetadataValue};
use serde_json::{Map, Value, json};

use super::GgufFile;
use crate::CheckpointError;

/// How the tokenizer of Qwen2 and Qwen3 cuts a text before merging, of their `tokenizer.json`.
const PIECES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// llama.cpp's `LLAMA_TOKEN_TYPE_CONTROL`.
const CONTROL: i64 = 3;
/// Its `LLAMA_TOKEN_TYPE_USER_DEFINED`.
const USER_DEFINED: i64 = 4;
/// Its `LLAMA_TOKEN_TYPE_UNUSED`: rows of the embedding that no token has.
const UNUSED: i64 = 5;

/// What ends a text besides the token that the file names.
const END_OF_TEXT: &str = "<|endoftext|>";

/// What the file recommends for sampling, and what `generation_config.json` calls it.
const SAMPLING: [(&str, &str); 3] = [
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
];

impl GgufFile {
    /// `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, as far as the file tells what is in them.
    ///
    /// # Errors
    /// When its tokenizer is not Qwen's, or contradicts itself.
    pub(crate) fn texts(&self) -> Result<BTreeMap<String, String>, CheckpointError> {
        let malformed = |reason| CheckpointError::Malformed { file: self.path().into(), reason };
        let texts = texts(self.metadata()).map_err(malformed)?;
        Ok(texts.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }
}

fn texts(metadata: &Metadata) -> Result<Vec<(&'static str, Value)>, String> {
    let name = |key: &str| metadata.get_string(key);
    match (name("tokenizer.ggml.model"), name("tokenizer.ggml.pre")) {
        (None | Some("none" | "no_vocab"), _) => return Ok(Vec::new()),
        (Some("gpt2"), Some("qwen2")) => {}
        (model, pre) => {
            let words = [model, pre].map(|word| word.unwrap_or("absent"));
            return Err(format!(
                "its tokenizer is {} cut as {} (tokenizer.ggml.model and .pre); only gpt2 cut as qwen2 is read",
                words[0], words[1]
            ));
        }
    }
    let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
    let merges = strings(metadata, "tokenizer.ggml.merges")?;
    let kinds = match metadata.get("tokenizer.ggml.token_type") {
        None => vec![1; tokens.len()],
        Some(value) => numbers(value).ok_or("tokenizer.ggml.token_type is no list of numbers")?,
    };
    if kinds.len() != tokens.len() {
        return Err(format!(
            "{} tokens, and types of {} (tokenizer.ggml.token_type)",
            tokens.len(),
            kinds.len()
        ));
    }
    let id = |key: &str| metadata.get_u64(&format!("tokenizer.ggml.{key}_token_id"));
    let text = |id: Option<u64>| tokens.get(usize::try_from(id?).ok()?).copied();

    let mut config = json!({
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": false,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "bos_token": null,
        "unk_token": null,
        "eos_token": text(id("eos")),
        "pad_token": text(id("padding")),
    });
    if let Some(template) = name("tokenizer.chat_template") {
        config["chat_template"] = json!(template);
    }
    let mut ends: Vec<u64> = ["eos", "eot"].into_iter().filter_map(id).collect();
    ends.extend(tokens.iter().position(|token| *token == END_OF_TEXT).map(|at| at as u64));
    let mut seen = std::collections::HashSet::new();
    ends.retain(|end| seen.insert(*end));
    let mut generation = Map::new();
    if !ends.is_empty() {
        generation.insert("eos_token_id".into(), json!(ends));
    }
    if let Some(pad) = id("padding") {
        generation.insert("pad_token_id".into(), json!(pad));
    }
    for (key, field) in SAMPLING {
        match metadata.get(key) {
            Some(MetadataValue::F32(value)) => {
                // As it was written, not as f32 has it.
                let value: f64 = value.to_string().parse().map_err(|_| format!("{key} is no number"))?;
                generation.insert(field.into(), json!(value));
            }
            Some(value) => {
                generation.extend(value.as_i64().map(|value| (field.to_string(), json!(value))));
            }
            None => {}
        }
    }
    Ok(vec![
        ("tokenizer.json", tokenizer(&tokens, &kinds, &merges)?),
        ("tokenizer_config.json", config),
        ("generation_config.json", Value::Object(generation)),
    ])
}

/// `tokenizer.json` as that of Qwen3 is.
fn tokenizer(tokens: &[&str], kinds: &[i64], merges: &[&str]) -> Result<Value, String> {
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for (id, (&token, &kind)) in tokens.iter().zip(kinds).enumerate() {
        match kind {
            CONTROL | USER_DEFINED => added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL,
            })),
            UNUSED => {}
            _ => {
                if vocab.insert(token.into(), json!(id)).is_some() {
                    return Err(format!("token {token:?} occurs more than once (tokenizer.ggml.tokens)"));
                }
            }
        }
    }
    let pair = |merge: &&str| {
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| format!("{merge:?} is no merge of two tokens"))?;
        match [left, right, &[left, right].concat()].into_iter().find(|token| !vocab.contains_key(*token)) {
            Some(token) => Err(format!("{merge:?}: {token:?} is no token (tokenizer.ggml.merges)")),
            None => Ok(json!([left, right])),
        }
    };
    let merges: Vec<Value> = merges.iter().map(pair).collect::<Result<_, String>>()?;
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let split =
        json!({ "type": "Split", "pattern": { "Regex": PIECES }, "behavior": "Isolated", "invert": false });
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [split, &byte_level] },
        "post_processor": &byte_level,
        "decoder": &byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    }))
}

fn strings<'a>(metadata: &'a Metadata, key: &str) -> Result<Vec<&'a str>, String> {
    let list = match metadata.get(key) {
        Some(MetadataValue::Array(list)) => list.values.iter().map(MetadataValue::as_str).collect(),
        _ => None,
    };
    list.ok_or_else(|| format!("{key} is missing, or no list of strings"))
}

fn numbers(value: &MetadataValue) -> Option<Vec<i64>> {
    let MetadataValue::Array(list) = value else { return None };
    list.values.iter().map(MetadataValue::as_i64).collect()
}
