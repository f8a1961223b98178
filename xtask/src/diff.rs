//! `cargo xtask diff`: what got worse from one report to the next.

use std::io::stdout;
use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::unless_closed;
use qwen3_report::diff;
use qwen3_report::text::{Look, write_diff};

/// Arguments of `cargo xtask diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The earlier report, as `--json` of verify, parity or bench writes it.
    old: PathBuf,
    /// The later report, of the same command.
    new: PathBuf,
}

/// Prints what differs; returns 1 when something got worse.
///
/// # Errors
/// When a file cannot be read or is no such report.
pub fn run(args: &Args) -> Result<u8> {
    let diff = diff::compare_files(&args.old, &args.new)?;
    unless_closed(write_diff(&diff, &mut stdout().lock(), Look::of_stdout()))?;
    Ok(diff.exit_code())
}
