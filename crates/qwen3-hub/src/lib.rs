//! Models by their name on the Hugging Face hub: from the cache that Hugging Face's own programs use, or downloaded
//! into it, where every file is compared with the hub's size and hash before it counts.
//!
//! ```no_run
//! use qwen3_hub::{Hub, HubModel, Need};
//!
//! let model = HubModel::parse("Qwen/Qwen3-0.6B").expect("a name");
//! let folder = Hub::from_env().folder(&model, Need::Weights, &mut |_| ())?;
//! # Ok::<(), qwen3_hub::HubError>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
mod check;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod fetch;
#[cfg(feature = "client")]
mod hub;
#[cfg(feature = "client")]
mod lock;
mod model;

#[cfg(feature = "client")]
pub use error::HubError;
#[cfg(feature = "client")]
pub use fetch::Event;
#[cfg(feature = "client")]
pub use hub::{Hub, INDEX, Need, TEXT_FILES, WEIGHTS};
pub use model::HubModel;
