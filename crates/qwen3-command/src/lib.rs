//! What the project's programs share as commands: arguments, declared once, parsed by each, and passed on from
//! `cargo xtask` to the programs that do the work ([`ParityArgs::words`] and its like); how programs are started and
//! how errors are printed; the files that results are written to; and what is left when a signal ends a program:
//! nothing.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bench;
pub mod child;
mod doctor;
mod ending;
mod failure;
mod output;
mod parity;
mod parse;
pub mod progress;
mod temporary;
mod values;
mod verify;
mod words;

pub use bench::{BenchArgs, BenchSizes, Peer, Synthetic};
pub use doctor::{DOCTOR_NOTES, DoctorArgs};
pub use ending::{OnEnd, Signal, end_program, on_end, on_signal};
pub use failure::{is_closed_pipe, line, unless_closed};
pub use output::{OutputError, OutputFile, OutputProblem, check_output_folder};
pub use parity::ParityArgs;
pub use parse::arguments;
pub use qwen3_trace::{printable, printable_lines, printable_text};
pub use temporary::Temporary;
pub use values::{BackendWord, DEFAULT_BACKEND, backend, backend_word, backends, dtype, kernels, named};
pub use verify::VerifyArgs;
