//! What token ids stand for, for people: read from `tokenizer.json`, without a tokenizer.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A larger file is not read: the official one has 11 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The texts of token ids.
#[derive(Clone, Debug, Default)]
pub struct TokenTexts {
    texts: HashMap<i64, String>,
}

#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, i64>,
}

#[derive(Deserialize)]
struct Added {
    id: i64,
    content: String,
}

impl TokenTexts {
    /// Those of the `tokenizer.json` in `folder`. None where there is no such file, or it is not of the form that
    /// byte-level BPE has: texts stand beside ids and decide nothing.
    pub fn read(folder: &Path) -> Self {
        let file = folder.join("tokenizer.json");
        let small = fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST_BYTES);
        small.then(|| fs::read(&file).ok()).flatten().map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Those of the text of such a file.
    pub fn parse(text: &[u8]) -> Self {
        let Ok(file) = serde_json::from_slice::<File>(text) else {
            return Self::default();
        };
        let bytes = bytes();
        let plain = file.model.vocab.into_iter().map(|(token, id)| (id, decoded(&token, &bytes)));
        let added = file.added_tokens.into_iter().map(|token| (token.id, token.content));
        Self { texts: plain.chain(added).collect() }
    }

    /// What `id` stands for.
    pub fn get(&self, id: i64) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }
}

/// The bytes of a token; what is no text alone is replaced.
fn decoded(token: &str, bytes: &HashMap<char, u8>) -> String {
    let known: Option<Vec<u8>> = token.chars().map(|c| bytes.get(&c).copied()).collect();
    known.map_or_else(|| token.into(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The byte that each character of a byte-level vocabulary stands for: those that are shown stand for themselves, the
/// others for characters from U+0100 on (Transformers 5.23.0, `bytes_to_unicode`).
fn bytes() -> HashMap<char, u8> {
    let shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let (shown, hidden): (Vec<u8>, Vec<u8>) = (0..=255).partition(shown);
    let moved = ('\u{100}'..).zip(hidden);
    shown.into_iter().map(|byte| (char::from(byte), byte)).chain(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_told_as_text() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TokenTexts::read(folder.path()).get(0), None);
        let file = r#"{"model": {"type": "BPE", "vocab": {"\u0120Paris": 0, "\u00c3\u00a9": 1, "\u00c3": 2, "\u010a": 3}},
            "added_tokens": [{"id": 4, "content": "<|im_end|>"}]}"#;
        fs::write(folder.path().join("tokenizer.json"), file).unwrap();
        let texts = TokenTexts::read(folder.path());
        let all: Vec<_> = (0..6).map(|id| texts.get(id)).collect();
        assert_eq!(
            all,
            [Some(" Paris"), Some("\u{e9}"), Some("\u{fffd}"), Some("\n"), Some("<|im_end|>"), None]
        );
        fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert_eq!(TokenTexts::read(folder.path()).get(0), None);
    }
}
