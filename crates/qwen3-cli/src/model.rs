//! Loading a model and what is around it.

use anyhow::Result;
use burn::tensor::DType;
use qwen3_import::{Loader, Progress};
use qwen3_model::{DeviceMap, Extent, Qwen3};
use qwen3_text::{GenerationConfig, Tokenizer};

use crate::failure::{Blame, bad_input};
use crate::files::{Files, Weights};
use crate::progress;

/// What makes text of tokens.
pub struct Texts {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// What the checkpoint recommends.
    pub generation: GenerationConfig,
}

impl Texts {
    /// Reads the texts of the model `name`.
    ///
    /// # Errors
    /// When there is no tokenizer, or one of the files is not sound.
    pub fn open(name: &str, files: &Files) -> Result<Self> {
        let tokenizer = tokenizer(name, files)?;
        Ok(Self { tokenizer, generation: GenerationConfig::open(&files.texts).bad_input()? })
    }
}

/// The tokenizer of the model `name`.
///
/// # Errors
/// When there is none, or its files are not sound.
pub fn tokenizer(name: &str, files: &Files) -> Result<Tokenizer> {
    if !files.texts.join("tokenizer.json").is_file() {
        let inside = match &files.weights {
            Weights::Record(_) => {
                Some("no tokenizer.json in the record or beside it; `qwen3 import` puts it inside")
            }
            Weights::Checkpoint(path) if path.is_file() => {
                Some("no tokenizer in it, and no tokenizer.json beside it")
            }
            Weights::Checkpoint(_) => None,
        };
        if let Some(what) = inside {
            return Err(bad_input(format!("{name}: {what}")));
        }
    }
    Tokenizer::open(&files.texts).bad_input()
}

/// So much of the model of `files` on the devices of `map`, in `dtype`, with a progress bar.
///
/// # Errors
/// When the files are not sound, or a whole model has no head.
pub fn weights(files: &Files, extent: Extent, map: &DeviceMap, dtype: DType) -> Result<Qwen3> {
    let bar = progress::bar("loading", 1);
    let mut tell = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let loader = Loader::on(map, dtype).extent(extent).progress(&mut tell);
    let model = match &files.weights {
        Weights::Checkpoint(folder) => loader.checkpoint(folder),
        Weights::Record(file) => loader.record(file),
    };
    bar.finish_and_clear();
    model.bad_input()
}

/// The resident set of a process now in bytes; `None` where the system does not tell.
pub fn memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
