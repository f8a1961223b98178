//! GGUF files of llama.cpp's: one file with config, tokenizer and weights.

use std::path::Path;

mod config;
mod file;
mod names;
#[cfg(test)]
mod tests;
mod texts;

pub(crate) use file::GgufFile;

/// Does the file begin as a GGUF file does?
pub fn is_gguf(path: &Path) -> bool {
    GgufFile::is_one(path)
}

#[cfg(any(test, feature = "sample"))]
pub(crate) use names::OF_LAYERS;
