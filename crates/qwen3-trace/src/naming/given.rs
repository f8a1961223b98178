//! `--names`: what the tensors of a file are, said by whoever wrote it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use qwen3_checkpoint::open_regular;

use crate::TraceError;
use crate::error::ensure;

/// What stands for the number of a layer, and of a cached step.
const PLACES: [&str; 2] = ["{layer}", "{step}"];
/// A larger file is none of names.
const MOST: u64 = 1 << 20;

/// The names of a file's tensors and the keys that they stand for, from a JSON object: `{"block{layer}_out":
/// "layer_{layer}_output", "kv_cache": null}`. `null` says that a tensor is not to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    file: PathBuf,
    keys: BTreeMap<String, Option<String>>,
}

impl Names {
    /// Reads such a file.
    ///
    /// # Errors
    /// When it cannot be read, is no object of texts, or the numbers in a key are not those of its name.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let (file, length) = open_regular(path)?;
        ensure(length <= MOST, path, || format!("{length} bytes, at most {MOST} are read"))?;
        let text = text(file).map_err(|error| TraceError::malformed(path, error.to_string()))?;
        let keys: BTreeMap<String, Option<String>> = serde_json::from_str(&text).map_err(|error| {
            TraceError::malformed(path, format!("no object of names and keys, or null: {error}"))
        })?;
        for (name, key) in &keys {
            let key = key.as_deref().unwrap_or_default();
            for place in PLACES {
                let (in_name, in_key) = (name.matches(place).count(), key.matches(place).count());
                ensure(in_name <= 1 && in_key <= in_name, path, || {
                    format!("`{name}`: {place} has to be in it once where it is in `{key}`")
                })?;
            }
        }
        Ok(Self { file: path.into(), keys })
    }

    /// The key that a tensor of this name stands for, `Some(None)` when it is not to be compared; `None` when nothing
    /// is said of it.
    pub fn key(&self, name: &str) -> Option<Option<String>> {
        if let Some(key) = self.keys.get(name) {
            return Some(key.clone());
        }
        self.keys.iter().find_map(|(pattern, key)| {
            let numbers = numbers(pattern, name)?;
            let filled = |key: &String| {
                let two = |number: &str| format!("{:0>2}", number.trim_start_matches('0'));
                let three = |number: &str| format!("{:0>3}", number.trim_start_matches('0'));
                key.replace(PLACES[0], &two(numbers[0])).replace(PLACES[1], &three(numbers[1]))
            };
            Some(key.as_ref().map(filled))
        })
    }

    /// Where the names were read.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

fn text(file: File) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// The digits in `name` where the pattern has its places, if it is of the pattern.
fn numbers<'a>(pattern: &str, name: &'a str) -> Option<[&'a str; 2]> {
    let mut places: Vec<(usize, usize)> =
        PLACES.iter().enumerate().filter_map(|(which, place)| Some((pattern.find(place)?, which))).collect();
    places.sort_unstable();
    let (mut numbers, mut rest, mut start) = ([""; 2], name, 0);
    for (at, which) in &places {
        rest = rest.strip_prefix(&pattern[start..*at])?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        (numbers[*which], rest) = rest.split_at(end);
        start = at + PLACES[*which].len();
    }
    (!places.is_empty() && rest == &pattern[start..]).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<Names, TraceError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("names.json");
        std::fs::write(&file, json).unwrap();
        Names::read(&file)
    }

    #[test]
    fn names_have_numbers_in_them() {
        let names = names(
            r#"{"block{layer}_out": "layer_{layer}_output", "t{step}/h.{layer}": "step_{step}.layer_{layer}_output", "h": "logits",
                "cache{layer}": null}"#,
        );
        let names = names.unwrap();
        let key = |name: &str| names.key(name);
        assert_eq!(key("block3_out"), Some(Some("layer_03_output".into())));
        assert_eq!(key("block003_out"), Some(Some("layer_03_output".into())));
        assert_eq!(key("block0_out"), Some(Some("layer_00_output".into())));
        assert_eq!(key("t2/h.11"), Some(Some("step_002.layer_11_output".into())));
        assert_eq!(key("h"), Some(Some("logits".into())));
        assert_eq!(key("cache7"), Some(None));
        for none in ["block_out", "block3_outs", "xblock3_out", "t/h.1", "hh"] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        for (json, said) in [
            ("[]", "no object"),
            (r#"{"a": 1}"#, "no object"),
            (r#"{"a": "layer_{layer}_output"}"#, "{layer} has to be in it once"),
            (r#"{"{layer}{layer}": "layer_{layer}_output"}"#, "{layer} has to be in it once"),
        ] {
            let error = names(json).unwrap_err().to_string();
            assert!(error.contains("names.json") && error.contains(said), "{error}");
        }
    }
}
