//! What parity and verification of Qwen3 found, as typed reports: written and read as JSON, shown as text, HTML
//! and JUnit, and compared with each other. Data becomes text in the last step, and is never read back from it.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod label;
mod layer_results;
mod memory;
mod parity;
mod status;
mod verify;

pub use label::Label;
pub use layer_results::LayerResult;
pub use memory::{Memory, peak_rss_mb};
pub use parity::{CaseResult, Kind, ParityReport};
pub use status::Status;
pub use verify::{RunResult, Timing, VerifyReport};

/// The Burn release this workspace is pinned to.
pub const BURN_VERSION: &str = "0.22.1";
/// The version of the reports' form that is written and read.
pub const SCHEMA: u32 = 1;
