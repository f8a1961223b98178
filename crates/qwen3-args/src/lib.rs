//! Command-line arguments that the project's programs share: declared once, parsed by each, and passed on from
//! `cargo xtask` to the fixture runner as [`ParityArgs::words`] and [`VerifyArgs::words`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod parity;
mod values;
mod verify;
mod words;

pub use parity::ParityArgs;
pub use values::{BackendWord, backend, backends, dtype, named};
pub use verify::VerifyArgs;
