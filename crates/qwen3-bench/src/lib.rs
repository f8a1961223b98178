//! Benchmarks of Qwen3: what a process measures and says ([`Measurements`]), what the work needs ([`Work`]) and the
//! machine can do ([`machine`], [`limits`]), and the report that follows. The program `qwen3-bench` takes rounds of
//! many such processes, of ours and of other engines.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod assemble;
pub mod idle;
pub mod limits;
pub mod machine;
mod measurements;
mod process;
mod work;
mod workloads;

pub use assemble::{Process, Who, assemble};
pub use measurements::{DeviceRates, Measurement, Measurements, MeasurementsError, NotMeasured};
pub use process::{Failure, Said, measured};
pub use work::Work;
pub use workloads::{tokens, workloads};
