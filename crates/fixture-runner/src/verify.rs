//! `verify`: a checkpoint on some backends, or somebody's activations, against a reference, layer by layer.

mod prompt;
mod verification;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use qwen3_command::{Temporary, VerifyArgs, progress};
use qwen3_verify::Outputs;

use crate::unavailable::Unavailable;
use verification::Verification;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    shared: VerifyArgs,
    #[command(flatten)]
    unavailable: Unavailable,
    /// Run wgpu once more in another build of this program: LABEL=PROGRAM.
    #[arg(long, hide = true, value_parser = label_and_program)]
    variant: Vec<(String, PathBuf)>,
}

fn label_and_program(text: &str) -> Result<(String, PathBuf), String> {
    let (label, program) = text.split_once('=').ok_or("expected LABEL=PROGRAM")?;
    Ok((label.into(), program.into()))
}

/// Verifies and reports; gives the exit code.
///
/// # Errors
/// Bad input, or a report that cannot be written.
pub fn verify(args: &Args) -> Result<ExitCode> {
    if args.shared.observed.is_some() {
        return qwen3_verify::verify_observed(&args.shared).map(ExitCode::from);
    }
    let outputs = Outputs::prepare(&args.shared)?;
    let _temporary = Temporary::of_process().context("no temporary folder")?;
    let verification = Verification::open(args)?;
    let report = verification.run();
    progress::done();
    let report = report?;
    outputs.write(&report, args.shared.fail_only)?;
    Ok(ExitCode::from(report.exit_code(&verification.named)))
}
