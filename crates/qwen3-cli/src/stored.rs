//! What of a model is written besides its weights, and in which dtype those are.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use qwen3_model::Precision;
use qwen3_text::Tokenizer;

use crate::failure::{Blame, bad_input};
use crate::files::{Files, TEXT_FILES, Weights};
use crate::inspect::{self, Entry};

/// A record with more text than this could not be opened again.
const MAX_TEXT_BYTES: u64 = 90 << 20;

/// The files that go with the weights, each sound, by their names.
///
/// # Errors
/// When one is not.
pub fn texts(files: &Files) -> Result<BTreeMap<String, String>> {
    if files.texts.join("tokenizer.json").is_file() {
        Tokenizer::open(&files.texts).bad_input()?;
    }
    let mut texts = BTreeMap::new();
    let mut bytes = 0;
    for name in TEXT_FILES {
        let file = files.texts.join(name);
        let Ok(metadata) = std::fs::metadata(&file) else {
            continue;
        };
        if !metadata.is_file() {
            return Err(bad_input(format!("{}: is no file", file.display())));
        }
        bytes += metadata.len();
        if bytes > MAX_TEXT_BYTES {
            let text = format!("{}: too large to go with the weights", file.display());
            return Err(bad_input(text));
        }
        let text = std::fs::read_to_string(&file);
        let text = text.with_context(|| file.display().to_string());
        texts.insert(name.to_string(), text.bad_input()?);
    }
    Ok(texts)
}

/// The dtype that most values of the weights are stored in.
///
/// # Errors
/// When they cannot be read.
pub fn own_dtype(weights: &Weights) -> Result<Precision> {
    let entries = inspect::tensors(weights).bad_input()?;
    let values = |dtype: &Precision| -> usize {
        let of_it = entries.iter().filter(|entry| entry.dtype == dtype.name());
        of_it.map(Entry::values).sum()
    };
    let most = Precision::ALL.into_iter().max_by_key(values);
    Ok(most.expect("a list of dtypes"))
}
