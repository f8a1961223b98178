//! `verify` as a user meets it: planted faults named, reports written, bad input refused.
#![cfg(feature = "ndarray")]

mod adapter;
mod common;
mod input;
mod observed;
mod runs;
#[cfg(unix)]
mod signals;
