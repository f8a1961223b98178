//! The special tokens that `tokenizer_config.json` names.

use std::path::Path;

use serde_json::{Map, Value};

use crate::TextError;
use crate::files::bad_key;

/// The names that Transformers gives to special tokens (5.23, `SPECIAL_TOKENS_ATTRIBUTES`), and passes
/// to chat templates under.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What `Qwen2Tokenizer` takes for a token that the config does not mention. A `null` there means none.
const QWEN_DEFAULTS: [&str; 3] = ["eos_token", "unk_token", "pad_token"];
const QWEN_DEFAULT: &str = "<|endoftext|>";

/// Name and text of each special token.
pub(crate) type SpecialTokens = Vec<(&'static str, String)>;

/// Those that the config names.
pub(crate) fn special_tokens(file: &Path, config: &Map<String, Value>) -> Result<SpecialTokens, TextError> {
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    let is_qwen = class.is_some_and(|class| class.trim_end_matches("Fast") == "Qwen2Tokenizer");
    let mut tokens = Vec::new();
    for name in NAMES {
        let text = match config.get(name) {
            Some(Value::Null) => continue,
            Some(Value::String(text)) => text,
            // An `AddedToken`, written out.
            Some(Value::Object(token)) => match token.get("content") {
                Some(Value::String(text)) => text,
                _ => return Err(bad_key(file, format!("{name}.content"), "is not a string")),
            },
            Some(_) => {
                return Err(bad_key(file, name, "is neither a string nor an added token"));
            }
            None if is_qwen && QWEN_DEFAULTS.contains(&name) => QWEN_DEFAULT,
            None => continue,
        };
        tokens.push((name, text.to_string()));
    }
    Ok(tokens)
}
