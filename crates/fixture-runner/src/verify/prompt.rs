//! A prompt without a reference.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qwen3_model::Qwen3Config;

/// Writes a file that holds only a prompt: `ids`, or some ids of the vocabulary when there are none.
///
/// # Errors
/// When an id is not in the vocabulary, or the file cannot be written.
pub fn prompt_only(ids: &[u32], config: &Qwen3Config, folder: &Path) -> Result<PathBuf> {
    /// Spreads the default prompt over the vocabulary.
    const STRIDE: usize = 7919;
    let ids: Vec<usize> = match ids {
        [] => (1..=16).map(|i| i * STRIDE % config.vocab_size).collect(),
        ids => ids.iter().map(|id| *id as usize).collect(),
    };
    for id in &ids {
        ensure!(*id < config.vocab_size, "--ids: {id} is not below vocab_size {}", config.vocab_size);
    }
    ensure!(
        ids.len() <= config.max_tokens(),
        "--ids: {} tokens, the checkpoint has {} positions",
        ids.len(),
        config.max_tokens()
    );
    let bytes: Vec<u8> = ids.iter().flat_map(|id| (*id as i64).to_le_bytes()).collect();
    let shape = vec![1, ids.len()];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, shape, &bytes)?;
    let file = folder.join("prompt.safetensors");
    safetensors::serialize_to_file(HashMap::from([("input_ids", view)]), None, &file)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}
