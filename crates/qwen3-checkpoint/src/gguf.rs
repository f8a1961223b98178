//! GGUF files of llama.cpp's: one file with config, tokenizer and weights.

use std::path::Path;

mod config;
mod file;
mod names;
mod texts;

pub(crate) use file::GgufFile;

/// Does the file begin as a GGUF file does?
pub fn is_gguf(path: &Path) -> bool {
    GgufFile::is_one(path)
}
