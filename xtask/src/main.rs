//! The project's commands. Thin: parse, set up the environment, start the real program, pass its exit code on.

mod backend;
mod bench;
mod bundle;
mod cache;
mod compare;
mod cuda;
mod diff;
mod doctor;
mod faults;
mod fixtures;
mod fuzz;
mod launch;
mod libtorch;
mod named;
mod own_python;
mod parity;
mod programs;
mod reference;
mod reliability;
mod runner;
mod setup;
mod support;
mod test;
mod transformers;
mod verify;
mod vulkan;
mod workspace;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  everything passed
  1  something failed, differed or crashed
  2  usage, set-up or build failure, or a bad or tampered fixture
  3  nothing failed, but a backend asked for by name is unavailable on this machine
  130, 143, 129  ended by SIGINT, SIGTERM, SIGHUP, nothing left behind";

const EXAMPLES: &str = "\
Examples:
  cargo xtask parity                     every case on flex: pure Rust, nothing to install
  cargo xtask parity --backend all       on ndarray, flex, wgpu and tch
  cargo xtask verify --model DIR --reference FILE.npz    where, and why, numbers differ
  cargo xtask doctor --model CONVERTED --original DIR    what became of the weights
  cargo xtask bench --backend all        how fast each is, beside what the machine can do
  cargo xtask setup                      libtorch and a Vulkan driver, once
  cargo xtask fixtures --check           are the committed fixtures what the oracle makes?
  cargo xtask test                       everything that has to hold before a change lands";

/// Qwen3 on Burn: the project's commands.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the model with Transformers, tensor by tensor, on one or more backends.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", parity::EXAMPLES))]
    Parity(parity::Args),
    /// Compare a checkpoint layer by layer with a reference, and name layer, operation and cause.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", verify::EXAMPLES))]
    Verify(verify::Args),
    /// Compare the weights of a converted, quantised or merged checkpoint with the original, and name what happened to them.
    #[command(after_help = qwen3_command::DOCTOR_NOTES)]
    Doctor(qwen3_command::DoctorArgs),
    /// Make a reference for verify with the Transformers oracle (Python).
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", reference::NOTES))]
    Reference(reference::Args),
    /// Compare two JSON reports of parity, verify or bench; exit 1 when something got worse.
    Diff(diff::Args),
    /// Bring what the tch and wgpu backends need: libtorch's parts, a software Vulkan driver.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", setup::NOTES))]
    Setup(setup::Args),
    /// Make the fixtures and manifest.json again with the Transformers oracle (Python).
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", fixtures::NOTES))]
    Fixtures(fixtures::Args),
    /// Measure how fast backends, dtypes and other engines load, read and decode, beside what the machine can do.
    #[command(after_help = bench::NOTES)]
    Bench(bench::Args),
    /// Pack the programs and fixtures for a machine with a GPU and without Rust or a network.
    #[command(after_help = bundle::NOTES)]
    Bundle(bundle::Args),
    /// Plant faults in a copy of the sources and show that parity notices each.
    #[command(after_help = faults::NOTES)]
    Faults(faults::Args),
    /// Give hostile input of every format to the programs and show that they refuse it.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", fuzz::NOTES))]
    Fuzz(fuzz::Args),
    /// Judge many honest and mistaken runs, try hostile input, and write docs/RELIABILITY.md.
    #[command(after_help = reliability::NOTES)]
    Reliability(reliability::Args),
    /// Write the support table of docs/backends.md from a parity report.
    Support(support::Args),
    /// Set-up, formatting, clippy, all tests, parity and a small benchmark on ndarray, flex, wgpu and tch, and hostile input.
    #[command(after_help = format!("{}\n\n{EXIT_CODES}", test::NOTES))]
    Test,
}

fn main() -> ExitCode {
    let command = qwen3_command::arguments::<Cli>().command;
    let result = qwen3_command::on_signal(|_| false).context("signals cannot be handled");
    let result = result.and_then(|()| match command {
        Command::Parity(args) => parity::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Fixtures(args) => fixtures::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Reliability(args) => reliability::run(&args),
        Command::Support(args) => support::run(&args),
        Command::Test => test::run(),
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {}", qwen3_command::line(&error));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_backend_is_a_usage_error() {
        let error = Cli::try_parse_from(["xtask", "parity", "--backend", "ndarray,metal"]).err();
        assert_eq!(error.expect("metal is no backend").exit_code(), 2);
    }
}
