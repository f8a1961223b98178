//! The importer on tiny checkpoints that the tests write themselves. One binary: linking Burn takes
//! longer than running all of it.
#![cfg(feature = "flex")]

mod adapters;
mod adapters_refused;
mod common;
mod compare;
#[cfg(feature = "ndarray")]
mod devices;
mod experts;
mod export;
mod files;
mod gguf;
mod headless;
mod hostile_records;
mod key_table;
mod keys;
mod layouts;
mod record_checksums;
mod record_headers;
mod records;
mod shards;
mod synthetic;
mod values;
