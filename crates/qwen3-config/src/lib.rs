//! What a Qwen3 `config.json` says, and what follows from it without a tensor library: the weights and their
//! shapes, and the tensors that pass through the model, their names, order and shapes.
//!
//! [`Qwen3Config`] is read and checked once; [`Qwen3Config::weights`] is the key table of a checkpoint;
//! [`Site`] names a tensor inside a running model; [`Precision`] is the list of dtypes, and
//! [`Kernels`] is how to compute.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod architecture;
mod checked;
mod config;
mod error;
mod experts;
mod frequencies;
mod json;
mod kernels;
mod layer_kind;
mod precision;
mod presets;
mod quantization;
mod rope;
mod rope_json;
mod rows;
mod site;
mod weights;
mod windows;

pub use config::Qwen3Config;
pub use error::ConfigError;
pub use experts::{Experts, SparseLayers};
pub use kernels::Kernels;
pub use layer_kind::{FeedForwardKind, LayerKind, Reach};
pub use precision::Precision;
pub use quantization::Fp8Blocks;
pub use rope::Rope;
pub use rows::Rows;
pub use site::{Site, Tap};
pub use weights::{EMBEDDING, FINAL_NORM, HEAD, ROUTER, Weight, expert_name, layer_key};
pub use windows::Windows;
