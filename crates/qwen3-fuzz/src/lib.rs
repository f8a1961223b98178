//! Hostile input for the project's programs.
//!
//! A [campaign](campaign) changes good files of every [format], one at a time and by their structure, gives each to
//! a command that reads it, in a [process](process) of its own within limits of time and memory, and [judges](judge)
//! what comes of it: read, or refused with exit code 2 and one line that names the file; never a panic, a signal,
//! something left behind or a control character in what is printed. Input `index` of a format under a seed is the
//! same on every machine. What was found once is in the [corpus], which is tried first.
#![deny(missing_docs)]
#![forbid(unsafe_code)]
#![cfg(unix)]

pub mod campaign;
pub mod corpus;
pub mod flags;
pub mod format;
pub mod hostile;
pub mod input;
pub mod json;
pub mod judge;
pub mod mutate;
pub mod process;
pub mod program;
pub mod random;
pub mod report;
pub mod scratch;
pub mod seeds;
