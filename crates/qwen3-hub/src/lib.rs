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

mod check;
mod error;
mod fetch;
mod hub;
mod lock;
mod model;

pub use error::HubError;
pub use fetch::Event;
pub use hub::{Hub, INDEX, Need, TEXT_FILES, WEIGHTS};
pub use model::HubModel;
