//! What a Qwen3 `config.json` says, and what follows from it without a tensor library: the weights and their
//! shapes, and the tensors that pass through the model, their names, order and shapes.
//!
//! [`Qwen3Config`] is read and checked once; [`Qwen3Config::weights`] is the key table of a checkpoint;
//! [`Site`] names a tensor inside a running model; [`Precision`] is the list of dtypes, and
//! [`Kernels`] is how to compute; [`DeviceMap`] says which part lies on which device.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod architecture;
mod checked;
mod config;
mod device_map;
mod device_map_json;
mod error;
mod experts;
mod extent;
mod frequencies;
mod json;
mod kernels;
mod layer_kind;
mod not_regular;
mod official;
mod precision;
mod presets;
mod quantization;
mod rope;
mod rope_json;
mod rows;
mod site;
mod sizes;
mod weights;
mod windows;

pub use config::Qwen3Config;
pub use device_map::{DeviceMap, DeviceMapError, Footprint, ModelPart};
pub use device_map_json::{DeviceMapFile, DeviceName};
pub use error::ConfigError;
pub use experts::{Experts, SparseLayers};
pub use extent::Extent;
pub use kernels::Kernels;
pub use layer_kind::{FeedForwardKind, LayerKind, Reach};
pub use not_regular::not_regular;
pub use official::Official;
pub use precision::Precision;
pub use quantization::Fp8Blocks;
pub use rope::Rope;
pub use rows::Rows;
pub use site::{Site, Tap};
pub use sizes::OFFICIAL_FP8;
pub use weights::{EMBEDDING, FINAL_NORM, HEAD, ROUTER, Weight, expert_name, layer_key};
pub use windows::Windows;
