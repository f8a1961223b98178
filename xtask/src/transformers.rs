//! Checkpoints as Transformers reads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_checkpoint::{Checkpoint, is_gguf};
use qwen3_command::{Temporary, printable};
use qwen3_trace::Precision;

/// What the oracle makes tokens with.
const TOKENIZER: &str = "tokenizer.json";

/// A checkpoint's folder in Hugging Face's layout, with the numbers that `verify` computes with.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// It, if it was made for this; removed with this.
    _unpacked: Option<Temporary>,
}

impl Folder {
    /// The folder `model` itself; of a GGUF file what its blocks stand for, in f32 and so exactly, in a temporary folder in
    /// `place`, with the tokenizer in the file, or else the one beside it.
    ///
    /// # Errors
    /// When the file is no sound dense Qwen3, or the folder cannot be written.
    pub fn of(model: &Path, place: &Path) -> Result<Self> {
        if !is_gguf(model) {
            return Ok(Self { path: model.into(), _unpacked: None });
        }
        let checkpoint = Checkpoint::open(model)?;
        eprintln!(
            "xtask: writing the weights of {} in f32, for Transformers ({:.1} GB for as long as it runs)",
            printable(&model.display().to_string()),
            4e-9 * checkpoint.config().num_parameters() as f64,
        );
        fs::create_dir_all(place).with_context(|| format!("{} cannot be made", place.display()))?;
        let folder = Temporary::inside(place, ".weights-")
            .with_context(|| format!("{} cannot be written to", place.display()))?;
        let path = folder.path().join("model");
        checkpoint.save(&path, Precision::F32)?;
        let beside = model.with_file_name(TOKENIZER);
        if !path.join(TOKENIZER).exists() && beside.is_file() {
            fs::copy(&beside, path.join(TOKENIZER))
                .with_context(|| format!("{} cannot be read", beside.display()))?;
        }
        Ok(Self { path, _unpacked: Some(folder) })
    }
}
