//! Hugging Face Qwen3 checkpoints to [`Qwen3`](qwen3_model::Qwen3) modules, and Burn records of them.
//!
//! [`load`] reads `config.json` and `model.safetensors`, or the shards that
//! `model.safetensors.index.json` names, or a GGUF file; [`Loader`] also puts it on several devices, leaves the head out,
//! and tells how far it is. [`save_record`] and [`load_record`] keep a model as one Burn record (`.bpk`) with its config
//! inside. [`attach_adapter`] puts a LoRA adapter of PEFT's on a model, and
//! [`merge_adapter`] into its weights. Everything that arrives from a file is checked
//! before it is used, every error names the file and the key, and no number from a header is
//! allocated before it has been compared with the file's length (a record's own header, which
//! `burn_pack` reads, is capped at 100 MiB instead). Records carry a checksum for every tensor and text.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod adapter;
mod error;
mod export;
mod loader;
mod record;
mod source;
mod stored;
mod weight;

use std::path::Path;

use burn::tensor::{DType, Device};
use qwen3_model::Qwen3;

pub use adapter::{adapter_of, attach_adapter, merge_adapter, unmerge_adapter};
pub use error::ImportError;
pub use export::{save_checkpoint, save_checkpoint_with_texts};
pub use loader::{Loader, Progress};
pub use qwen3_checkpoint::{
    Adapter, AdapterConfig, Checkpoint, CheckpointError, Encoding, Factors, Target, TargetModules,
    TensorEntry, check_vacant, is_gguf, read_config, read_device_map,
};
pub use qwen3_record::RecordFile;
pub use record::{save_record, save_record_with_texts};
pub use source::CheckpointSource;

/// [`Loader::checkpoint`] of a whole model on one device: the checkpoint in `dir`, its weights cast to `dtype` (f32, f16
/// or bf16).
///
/// # Errors
/// As there.
pub fn load(dir: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Qwen3, ImportError> {
    Loader::new(device, dtype).checkpoint(dir)
}

/// [`Loader::record`] of a whole model on one device: the record `file`, its weights cast to `dtype` (f32, f16 or bf16).
///
/// # Errors
/// As there.
pub fn load_record(file: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Qwen3, ImportError> {
    Loader::new(device, dtype).record(file)
}
