//! What `--adapter` names: a LoRA adapter of PEFT's.

use std::path::PathBuf;

use anyhow::Result;
use qwen3_import::{Adapter, attach_adapter};
use qwen3_model::Qwen3;

use crate::failure::Blame;
use crate::files::Files;

/// The adapter argument.
#[derive(clap::Args, Debug)]
pub struct AdapterArg {
    /// A LoRA adapter to run the model with, unmerged: a folder that PEFT wrote (adapter_config.json and
    /// adapter_model.safetensors)
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
}

/// The adapter that is given, if there is one, read and known to be one for the model.
pub struct OpenAdapter(Option<Adapter>);

impl AdapterArg {
    /// Opens it for the model of `files`, before any weight of that is read.
    ///
    /// # Errors
    /// When its files are not sound, or it is for another model.
    pub fn open(&self, files: &Files) -> Result<OpenAdapter> {
        let Some(folder) = &self.adapter else {
            return Ok(OpenAdapter(None));
        };
        Ok(OpenAdapter(Some(Adapter::open(folder, &files.weights.config()?).bad_input()?)))
    }
}

impl OpenAdapter {
    /// `model` with the adapter on it.
    ///
    /// # Errors
    /// When it is for another model.
    pub fn on(self, model: Qwen3) -> Result<Qwen3> {
        match self.0 {
            Some(adapter) => attach_adapter(model, &adapter).bad_input(),
            None => Ok(model),
        }
    }
}
