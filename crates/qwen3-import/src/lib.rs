//! Hugging Face Qwen3 checkpoints to [`Qwen3`](qwen3_model::Qwen3) modules, and Burn records of them.
//!
//! [`load`] reads `config.json` and `model.safetensors`, or the shards that
//! `model.safetensors.index.json` names. [`save_record`] and [`load_record`] keep a model as one
//! Burn record (`.bpk`) with its config inside. [`attach_adapter`] puts a LoRA adapter of PEFT's on a model, and
//! [`merge_adapter`] into its weights. Everything that arrives from a file is checked
//! before it is used, every error names the file and the key, and no number from a header is
//! allocated before it has been compared with the file's length (a record's own header, which
//! `burn_pack` reads, is capped at 100 MiB instead). Records carry a checksum for every tensor and text.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod adapter;
mod checksums;
mod error;
mod load;
mod record;
mod weight;

pub use adapter::{adapter_of, attach_adapter, merge_adapter, unmerge_adapter};
pub use error::ImportError;
pub use load::{
    CheckpointSource, Progress, load, load_encoder, load_encoder_with_progress, load_on, load_with_progress,
};
pub use qwen3_checkpoint::{
    Adapter, AdapterConfig, Checkpoint, CheckpointError, Factors, Target, TargetModules, TensorEntry,
    read_config, read_device_map,
};
pub use record::{
    RecordFile, load_encoder_record, load_encoder_record_with_progress, load_record, load_record_on,
    load_record_with_progress, save_record, save_record_with_texts,
};

/// The README's example, compiled and run as a test.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
