//! What verifying a checkpoint begins and ends with, and all of verifying somebody's activations: `qwen3-verify`, and
//! `verify --observed` of the other programs. Needs no backend.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod given;
mod outputs;

use anyhow::{Context, Result, bail};
use qwen3_command::{Temporary, VerifyArgs, progress};

pub use given::Given;
pub use outputs::Outputs;

/// Verifies the activations that `--observed` names, and reports; gives the exit code: 0 when all is within its limits, 1
/// when something is not.
///
/// # Errors
/// Bad input, or a report that cannot be written.
pub fn verify_observed(args: &VerifyArgs) -> Result<u8> {
    let outputs = Outputs::prepare(args)?;
    let Some(file) = &args.observed else {
        bail!(
            "--observed is missing: what is to be verified (`cargo xtask verify` runs the model on backends)"
        );
    };
    let _temporary = Temporary::of_process().context("no temporary folder")?;
    let given = Given::open(args, |_| bail!("--reference is missing: what should come out"))?;
    let mut report = given.report();
    let run = given.check_observed(file);
    progress::done();
    report.runs.push(run?);
    report.finish(given.checkpoint.config());
    outputs.write(&report, args.fail_only)?;
    Ok(report.exit_code(&[]))
}
