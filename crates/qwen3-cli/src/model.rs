//! Loading a model and what is around it.

use anyhow::Result;
use burn::tensor::{DType, Device};
use qwen3_import::{
    ImportError, Progress, load_encoder_record_with_progress, load_encoder_with_progress, load_on,
    load_record_on,
};
use qwen3_model::{DeviceMap, Qwen3};
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
    if let (Weights::Record(_), false) = (&files.weights, files.texts.join("tokenizer.json").is_file()) {
        return Err(bad_input(format!(
            "{name}: no tokenizer.json in the record or beside it; `qwen3 import` puts it inside"
        )));
    }
    Tokenizer::open(&files.texts).bad_input()
}

/// The model of `files` on `device`, in `dtype`, with a progress bar.
///
/// # Errors
/// When the files are not sound, or the model has no head.
pub fn weights(files: &Files, device: &Device, dtype: DType) -> Result<Qwen3> {
    let layers = files.weights.config()?.num_hidden_layers;
    weights_on(files, &DeviceMap::whole(device.clone(), layers), dtype)
}

/// [`weights`] with each part on the device that `map` has for it.
///
/// # Errors
/// As [`weights`].
pub fn weights_on(files: &Files, map: &DeviceMap, dtype: DType) -> Result<Qwen3> {
    loading(|tell| match &files.weights {
        Weights::Checkpoint(folder) => load_on(folder, map, dtype, tell),
        Weights::Record(file) => load_record_on(file, map, dtype, tell),
    })
}

/// The same without an untied head, whether there is one or not.
///
/// # Errors
/// When the files are not sound.
pub fn encoder(files: &Files, device: &Device, dtype: DType) -> Result<Qwen3> {
    loading(|tell| match &files.weights {
        Weights::Checkpoint(folder) => load_encoder_with_progress(folder, device, dtype, tell),
        Weights::Record(file) => load_encoder_record_with_progress(file, device, dtype, tell),
    })
}

/// What `load` gives, with a progress bar.
fn loading(load: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<Qwen3, ImportError>) -> Result<Qwen3> {
    let bar = progress::bar("loading", 1);
    let model = load(&mut |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
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
