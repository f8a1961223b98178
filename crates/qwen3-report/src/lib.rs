//! What parity, verification and benchmarks of Qwen3 found, as typed reports: written and read as JSON, shown as text, HTML,
//! Markdown and JUnit, and compared with each other. Data becomes text in the last step, and is never read back from it.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod any;
pub mod bench;
pub mod diff;
pub mod doctor;
pub mod html;
pub mod junit;
mod label;
mod layer_results;
pub mod markdown;
mod measure;
mod memory;
mod parity;
mod readings;
mod run_result;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
mod serde_forms;
mod status;
pub mod text;
mod verify;

pub use any::{AnyReport, ReadError, ReportKind};
pub use bench::BenchReport;
pub use label::{Label, OBSERVED};
pub use layer_results::LayerResult;
pub use memory::{Memory, huge_pages_mb, peak_rss_mb};
pub use parity::{CaseResult, Kind, ParityReport};
pub use run_result::{RunResult, Timing};
pub use status::Status;
pub use verify::VerifyReport;

/// The Burn release this workspace is pinned to.
pub const BURN_VERSION: &str = "0.22.1";
/// The version of the reports' form that is written and read.
pub const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests {
    #[test]
    fn burn_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock").replace("\r\n", "\n");
        assert!(lock.contains(&format!("name = \"burn-core\"\nversion = \"{}\"\n", super::BURN_VERSION)));
    }
}
