//! Records of Qwen3 models (Burnpack, `.bpk`) as files: config, texts, checksums, and tensors read piece by piece. Needs
//! Burn's container alone, and no backend; models are made of records, and written to them, by qwen3-import.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod checksums;
mod file;

pub use burn_pack::Tensor;
pub use checksums::Checksums;
pub use file::{CONFIG_KEY, RecordFile, TEXT_PREFIX, is_of_head, malformed};
