//! What of `tokenizer.json` would make the tokenizer library take memory or time out of proportion, or end the
//! process: refused before the library reads it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::TextError;
use crate::files::bad_key;
use crate::limits::{
    TOKENIZER_DEPTH, TOKENIZER_GROWTH, TOKENIZER_PARTS, TOKENIZER_PATTERN, TOKENIZER_SPECIAL,
};

/// The parts of the file that are programs; the vocabulary is not kept.
#[derive(Deserialize)]
struct Pipelines {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

/// Refuses a file whose pipelines are out of proportion. Of keys given twice the library may take the other one, so
/// that they are refused as well.
///
/// # Errors
/// [`TextError::Tokenizer`] when the text is not a JSON object, and [`TextError::Key`].
pub(crate) fn check(file: &Path, text: &str) -> Result<(), TextError> {
    let pipelines: Pipelines = serde_json::from_str(text)
        .map_err(|error| TextError::Tokenizer { file: file.into(), reason: error.to_string() })?;
    let named = [
        ("normalizer", &pipelines.normalizer),
        ("pre_tokenizer", &pipelines.pre_tokenizer),
        ("decoder", &pipelines.decoder),
        ("post_processor", &pipelines.post_processor),
    ];
    for (name, pipeline) in named {
        let mut walk = Walk { file, parts: 0, growth: 1, grows: name != "pre_tokenizer" };
        walk.part(pipeline, name, 0)?;
    }
    Ok(())
}

struct Walk<'a> {
    file: &'a Path,
    parts: usize,
    growth: usize,
    grows: bool,
}

impl Walk<'_> {
    /// One part and those within it, whatever they are called: the library takes them without `type`, too.
    fn part(&mut self, part: &Value, key: &str, depth: usize) -> Result<(), TextError> {
        let refused = |key: String, reason: String| Err(bad_key(self.file, key, reason));
        let Value::Object(fields) = part else { return Ok(()) };
        self.parts += 1;
        if self.parts > TOKENIZER_PARTS {
            return refused(key.into(), format!("has more than {TOKENIZER_PARTS} parts"));
        }
        if depth > TOKENIZER_DEPTH {
            return refused(key.into(), format!("is nested deeper than {TOKENIZER_DEPTH}"));
        }
        for (name, value) in fields {
            let long = value.as_str().is_some_and(|text| text.len() > TOKENIZER_PATTERN);
            if long && name != "precompiled_charsmap" {
                return refused(format!("{key}.{name}"), format!("has more than {TOKENIZER_PATTERN} bytes"));
            }
        }
        if fields.get("length") == Some(&Value::from(0)) {
            return refused(format!("{key}.length"), "is 0".into());
        }
        if let Some(pattern) = fields.get("pattern") {
            self.pattern(pattern, fields.get("content"), key)?;
        }
        if let Some(map) = fields.get("precompiled_charsmap").and_then(Value::as_str) {
            let map_key = format!("{key}.precompiled_charsmap");
            match longest_replacement(map) {
                Ok(longest) => self.grow(longest, &map_key)?,
                Err(reason) => return refused(map_key, reason),
            }
        }
        if let Some(pieces) = fields.get("single").and_then(Value::as_array) {
            let texts = pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count();
            self.grow(texts, &format!("{key}.single"))?;
        }
        if let Some(Value::Object(tokens)) = fields.get("special_tokens") {
            let ids = tokens.values().filter_map(|token| token.get("ids")?.as_array().map(Vec::len));
            let ids: usize = ids.sum();
            if ids > TOKENIZER_SPECIAL {
                let reason = format!("has {ids} ids, at most {TOKENIZER_SPECIAL}");
                return refused(format!("{key}.special_tokens"), reason);
            }
        }
        if let Some(prepended) = fields.get("prepend").and_then(Value::as_str) {
            self.grow(1 + prepended.len(), &format!("{key}.prepend"))?;
        }
        for (name, value) in fields {
            let parts = value.as_array().filter(|_| name != "pattern").into_iter().flatten();
            for (at, inner) in parts.enumerate() {
                self.part(inner, &format!("{key}.{name}[{at}]"), depth + 1)?;
            }
        }
        Ok(())
    }

    /// A pattern, and what replaces each match.
    fn pattern(&mut self, pattern: &Value, content: Option<&Value>, key: &str) -> Result<(), TextError> {
        let pattern_key = format!("{key}.pattern");
        let refused = |reason: String| Err(bad_key(self.file, &pattern_key, reason));
        let literal = pattern.get("String").and_then(Value::as_str);
        let text = literal.or(pattern.get("Regex").and_then(Value::as_str)).or(pattern.as_str());
        let Some(text) = text else { return Ok(()) };
        if text.is_empty() {
            return refused("is empty".into());
        }
        if text.len() > TOKENIZER_PATTERN {
            return refused(format!("has more than {TOKENIZER_PATTERN} bytes"));
        }
        let Some(content) = content.and_then(Value::as_str) else { return Ok(()) };
        let growth = match literal {
            Some(literal) => content.len().div_ceil(literal.len()).max(1),
            // It may match nothing, between any two bytes.
            None => 1 + content.len(),
        };
        self.grow(growth, &format!("{key}.content"))
    }

    /// A text may become so many times longer.
    fn grow(&mut self, times: usize, key: &str) -> Result<(), TextError> {
        self.growth = self.growth.saturating_mul(times.max(1));
        if self.grows && self.growth > TOKENIZER_GROWTH {
            let reason =
                format!("makes a text up to {} times longer, at most {TOKENIZER_GROWTH} times", self.growth);
            return Err(bad_key(self.file, key, reason));
        }
        Ok(())
    }
}

/// Bytes of the longest replacement in a SentencePiece character map: the length of a trie, the trie, and
/// replacements that end in zeros.
fn longest_replacement(map: &str) -> Result<usize, String> {
    let bytes = STANDARD.decode(map).map_err(|error| format!("is not base64: {error}"))?;
    let (length, rest) = bytes.split_first_chunk().ok_or("is shorter than its length")?;
    let trie = u32::from_le_bytes(*length) as usize;
    if trie < 4 || !trie.is_multiple_of(4) || trie > rest.len() {
        return Err(format!("says that {trie} of its {} bytes are a trie", rest.len()));
    }
    let replacements = rest[trie..].split(|&byte| byte == 0);
    Ok(replacements.map(<[u8]>::len).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        check(Path::new("tokenizer.json"), json).err().map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn pipelines_out_of_proportion_are_named() {
        let replace = |pattern: &str, content: &str| {
            format!(r#"{{"type": "Replace", "pattern": {pattern}, "content": "{content}"}}"#)
        };
        let sequence = |parts: Vec<String>| {
            format!(r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{}]}}}}"#, parts.join(","))
        };
        let doubling = replace(r#"{"String": "a"}"#, "aa");
        let error = refusal(&sequence(vec![doubling.clone(); 30]));
        assert!(
            error.contains("`normalizer.normalizers[6].content` makes a text up to 128 times"),
            "{error}"
        );
        assert_eq!(refusal(&sequence(vec![doubling; 6])), "");
        assert_eq!(refusal(&sequence(vec![replace(r#"{"String": " "}"#, "▁"); 3])), "");
        let empty = replace(r#"{"String": ""}"#, "x");
        assert!(refusal(&format!(r#"{{"decoder": {empty}}}"#)).contains("`decoder.pattern` is empty"));
        let regex = replace(r#"{"Regex": "x*"}"#, &"y".repeat(100));
        assert!(refusal(&format!(r#"{{"normalizer": {regex}}}"#)).contains("`normalizer.content`"));
        let nfc = r#"{"type": "NFC"}"#.to_string();
        assert!(refusal(&sequence(vec![nfc; 100])).contains("has more than 64 parts"));
        let deep = r#"{"type": "Sequence", "normalizers": ["#.repeat(20) + &"]}".repeat(20);
        assert!(refusal(&format!(r#"{{"normalizer": {deep}}}"#)).contains("nested deeper than 8"));
        assert!(refusal(r#"{"normalizer": null, "normalizer": null}"#).contains("duplicate"));
    }

    #[test]
    fn templates_out_of_proportion_are_named() {
        let twice = r#"{"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"Sequence": {}}]}"#;
        let sequence = |parts: usize| {
            let parts = vec![twice; parts].join(",");
            refusal(&format!(r#"{{"post_processor": {{"type": "Sequence", "processors": [{parts}]}}}}"#))
        };
        assert_eq!(sequence(6), "");
        let error = sequence(7);
        assert!(
            error.contains("`post_processor.processors[6].single` makes a text up to 128 times"),
            "{error}"
        );
        let tokens = |count: usize| {
            let ids = vec!["1"; count].join(",");
            let token = format!(r#"{{"e": {{"id": "e", "ids": [{ids}], "tokens": []}}}}"#);
            refusal(&format!(r#"{{"post_processor": {{"single": [], "special_tokens": {token}}}}}"#))
        };
        assert_eq!(tokens(256), "");
        assert!(tokens(257).contains("`post_processor.special_tokens` has 257 ids, at most 256"));
    }

    #[test]
    fn character_maps_are_what_they_say() {
        let map = |length: u32, rest: &[u8]| {
            let bytes = [&length.to_le_bytes()[..], rest].concat();
            let map = STANDARD.encode(bytes);
            refusal(&format!(
                r#"{{"normalizer": {{"type": "Precompiled", "precompiled_charsmap": "{map}"}}}}"#
            ))
        };
        assert_eq!(map(4, b"\0\0\0\0abc\0"), "");
        for (length, rest) in [(u32::MAX, &b"abcd"[..]), (0, b""), (3, b"abcd"), (8, b"abcd")] {
            assert!(map(length, rest).contains("`normalizer.precompiled_charsmap` says"), "{length}");
        }
        let long = [&[0; 4][..], &[b'x'; 500]].concat();
        assert!(map(4, &long).contains("makes a text up to 500 times"));
    }
}
