//! Qwen3 checkpoints as Hugging Face lays them out: `config.json`, `model.safetensors` or the shards that
//! `model.safetensors.index.json` names, and their values on the host; GGUF files of llama.cpp's, under the same keys; and
//! LoRA adapters as PEFT lays them out. Checkpoints are written, too.
//!
//! Everything that arrives from a file is checked before it is used, every error names the file and the key,
//! and no number from a header is allocated before it has been compared with the file's length.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod adapter;
mod blocks;
mod checkpoint;
mod device_map;
mod encoding;
mod error;
mod files;
mod fp8;
mod gguf;
mod host;
mod index;
mod layout;
mod safetensors_file;
mod weight_file;
mod writing;

pub use adapter::{Adapter, AdapterConfig, Factors, Target, TargetModules};
pub use blocks::BlockFormat;
pub use checkpoint::{Checkpoint, LooseTensor, PIECE, TensorEntry, read_config};
pub use device_map::read_device_map;
pub use encoding::Encoding;
pub use error::CheckpointError;
pub use files::open_regular;
pub use gguf::is_gguf;
pub use host::{HostValue, NotFinite, widen};
pub use safetensors_file::SafetensorsFile;
pub use writing::{NewCheckpoint, NewTensor, SHARD_BYTES, ValueBytes, check_vacant};
