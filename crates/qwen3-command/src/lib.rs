//! What the project's programs share as commands: arguments, declared once, parsed by each, and passed on from
//! `cargo xtask` to the fixture runner as [`ParityArgs::words`] and [`VerifyArgs::words`]; and how errors end.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod failure;
mod parity;
mod values;
mod verify;
mod words;

pub use failure::{is_closed_pipe, line, unless_closed};
pub use parity::ParityArgs;
pub use values::{BackendWord, backend, backends, dtype, named};
pub use verify::VerifyArgs;
