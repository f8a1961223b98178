//! Says what became of a checkpoint's weights: `cargo xtask doctor` as a program of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use qwen3_command::{DOCTOR_NOTES, DoctorArgs};

/// Compares the weights of a converted, quantised, merged or downloaded checkpoint with the original.
#[derive(Parser)]
#[command(name = "qwen3-doctor", version, after_help = DOCTOR_NOTES)]
struct Cli {
    #[command(flatten)]
    args: DoctorArgs,
}

fn main() -> ExitCode {
    let Cli { args } = qwen3_command::arguments();
    let ready = qwen3_command::on_signal(|_| false).context("signals cannot be handled");
    match ready.and_then(|()| qwen3_doctor::run(&args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", qwen3_command::line(&error));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
