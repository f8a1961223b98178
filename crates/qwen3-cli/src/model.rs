//! Loading a model with everything around it.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::{DType, Device};
use qwen3_import::{Progress, load_record_with_progress, load_with_progress};
use qwen3_model::Qwen3;
use qwen3_text::{ChatTemplate, GenerationConfig, Tokenizer};

use crate::device::DeviceArgs;
use crate::failure::Blame;
use crate::files::{Files, ModelArg, Need, Weights};
use crate::progress;

/// A model ready to generate text.
pub struct Loaded {
    /// The model.
    pub model: Qwen3,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What the checkpoint recommends.
    pub generation: GenerationConfig,
    /// The seconds that loading took, downloads not counted.
    pub seconds: f64,
    /// Where everything came from.
    pub files: Files,
}

impl Loaded {
    /// Loads what the arguments name, with a progress bar.
    ///
    /// # Errors
    /// When it is not there, not sound, or does not fit the device.
    pub fn new(model: &ModelArg, device: &DeviceArgs) -> Result<Self> {
        let files = model.files(Need::Weights)?;
        let begun = Instant::now();
        // What is quick to read goes first, so that a mistake in it does not wait for the weights.
        let tokenizer = Tokenizer::open(&files.texts).bad_input()?;
        let generation = GenerationConfig::open(&files.texts).bad_input()?;
        let (device, dtype) = device.device()?;
        let model = weights(&files, &device, dtype)?;
        Ok(Self {
            model,
            tokenizer,
            generation,
            seconds: begun.elapsed().as_secs_f64(),
            files,
        })
    }

    /// The checkpoint's chat template.
    ///
    /// # Errors
    /// When it has none or an unsound one.
    pub fn template(&self) -> Result<ChatTemplate> {
        ChatTemplate::open(&self.files.texts).bad_input()
    }
}

/// The model of `files` on `device`, in `dtype`, with a progress bar.
///
/// # Errors
/// When the files are not sound.
pub fn weights(files: &Files, device: &Device, dtype: DType) -> Result<Qwen3> {
    let bar = progress::bar("loading", 1);
    let mut tell = |progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let model = match &files.weights {
        Weights::Checkpoint(folder) => load_with_progress(folder, device, dtype, &mut tell),
        Weights::Record(file) => load_record_with_progress(file, device, dtype, &mut tell),
    };
    bar.finish_and_clear();
    model.bad_input()
}

/// The largest resident set of this process so far in MiB; `None` where the system does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
