//! Measures candle's Qwen3 on a checkpoint and prints one JSON object, as the other peers do.

#![deny(missing_docs)]

mod benchmark;
mod checkpoint;
mod engine;
mod options;

use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use benchmark::Benchmark;
use checkpoint::Checkpoint;
use engine::Candle;
use options::Options;

/// Why there is nothing to print.
enum Failure {
    /// A missing file, an unsupported configuration or an option out of range.
    Input(String),
    /// Candle cannot run this checkpoint in this dtype.
    Unavailable(String),
}

impl From<candle_core::Error> for Failure {
    /// Of a computation; errors of reading are made into bad input where they occur.
    fn from(error: candle_core::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A text without line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The version of candle that this program was built with, as the lock has it.
fn version() -> String {
    let lock = include_str!("../Cargo.lock");
    let (_, after) =
        lock.split_once("name = \"candle-transformers\"\nversion = \"").expect("the lock has candle");
    format!("candle {}", after.split('"').next().expect("a version"))
}

/// Loads the model and measures it, or continues the prompts of `--ids`.
fn run() -> Result<Value, Failure> {
    let options = Options::read()?;
    let checkpoint = Checkpoint::read(&options.model)?;
    options.check_ids(&checkpoint)?;
    // SAFETY: no other thread runs yet. Candle makes its two pools of threads later, and asks these for their size.
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        unsafe { std::env::set_var(name, options.threads.to_string()) };
    }
    let start = Instant::now();
    let engine = Candle::load(&checkpoint, options.dtype)?;
    let load = start.elapsed().as_secs_f64();
    let mut benchmark = Benchmark::new(engine, &options, &checkpoint);
    if !options.ids.is_empty() {
        let ids = benchmark.greedy_ids()?;
        return Ok(json!({ "schema": 1, "peer": "candle", "version": version(), "ids": ids }));
    }
    benchmark.all(load)?;
    Ok(json!({
        "schema": 1,
        "peer": "candle",
        "version": version(),
        "threads": options.threads,
        "measurements": benchmark.measurements,
        "skipped": benchmark.skipped,
        "peak_rss_mb": benchmark::peak_rss_mb(),
    }))
}

fn main() -> ExitCode {
    match run() {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(Failure::Input(message)) => {
            eprintln!("error: {}", one_line(&message));
            ExitCode::from(2)
        }
        Err(Failure::Unavailable(message)) => {
            eprintln!("unavailable: {}", one_line(&message));
            ExitCode::from(3)
        }
    }
}
