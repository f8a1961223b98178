//! The command where things go wrong: a hub that lies, signals, outputs that cannot be, text that a terminal would obey.
//! One binary: linking Burn takes longer than running all of it.
#![cfg(all(feature = "flex", unix))]

mod common;
mod download;
mod hub;
mod models;
mod outputs;
mod printed;
mod server;
mod signals;
