//! Runs the parity cases of a manifest, and models for `verify`, on Burn's backends.
//!
//! `parity` and `verify` supervise: each backend runs in a `worker` process of its own ([`supervise`]), which
//! computes what it is told ([`subject`], [`observe`]). What comes out is judged by qwen3-trace, explained by
//! qwen3-blame and written by qwen3-report.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod check;
mod child;
mod error;
mod lanes;
mod manifest;
mod observe;
mod parity;
mod protocol;
mod subject;
mod supervise;
mod unavailable;
mod verify;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use qwen3_trace::{Backend, Kernels};

/// Runs parity cases on Burn's backends.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run cases and compare every tensor with the oracle.
    ///
    /// Exit codes: 0 all passed; 1 something failed or crashed; 2 usage, or a bad or tampered fixture;
    /// 3 nothing failed, but a backend asked for by name is unavailable on this machine.
    Parity(parity::Args),
    /// Compare a checkpoint layer by layer with a reference, and name the cause when numbers differ.
    ///
    /// Exit codes: 0 all passed; 1 something differs or crashes; 2 usage or bad input; 3 nothing failed,
    /// but a backend asked for by name is unavailable on this machine.
    Verify(verify::Args),
    /// Serve jobs over standard input (started by `parity` and `verify`).
    #[command(hide = true)]
    Worker {
        #[arg(long, value_parser = qwen3_command::backend())]
        backend: Backend,
        #[arg(long, value_parser = qwen3_command::kernels())]
        kernels: Kernels,
        #[arg(long)]
        manifest: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let outcome = match qwen3_command::arguments::<Cli>().command {
        Command::Parity(args) => ended_cleanly().and_then(|()| parity::parity(&args)),
        Command::Verify(args) => ended_cleanly().and_then(|()| verify::verify(&args)),
        Command::Worker { backend, kernels, manifest } => {
            worker::serve(backend, kernels, manifest.as_deref()).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", qwen3_command::line(&error));
        ExitCode::from(2)
    })
}

/// A signal ends this program and leaves no worker and no file. A worker is killed, and has its files in its
/// supervisor's folder.
fn ended_cleanly() -> anyhow::Result<()> {
    qwen3_command::on_signal(|_| false).context("signals cannot be handled")
}
