//! `verify`: a checkpoint on some backends, or somebody's activations, against a reference, layer by layer.

mod prompt;
mod verification;

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use qwen3_command::{OutputFile, Temporary, VerifyArgs, unless_closed};
use qwen3_report::{html, junit, text};

use crate::progress;
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
    let VerifyArgs { model, adapter, reference, observed, json, junit, html, .. } = &args.shared;
    let folders = [Some(model), adapter.as_ref()].into_iter().flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let files = files.map(|file| file.path());
    let given = [reference, observed].into_iter().flatten().cloned();
    let inputs: Vec<PathBuf> = given.chain(files).collect();
    let prepare = |flag, file: &Option<PathBuf>| {
        let inputs = inputs.iter().map(PathBuf::as_path);
        file.as_ref().map(|file| OutputFile::prepare(flag, file, inputs)).transpose()
    };
    let files = [prepare("--json", json)?, prepare("--junit", junit)?, prepare("--html", html)?];
    OutputFile::check_distinct(&files.iter().flatten().collect::<Vec<_>>())?;

    let _temporary = Temporary::of_process().context("no temporary folder")?;
    let verification = Verification::open(args)?;
    let report = verification.run();
    progress::done();
    let report = report?;
    let [json, junit, html] = files;
    if let Some(file) = json {
        file.write(&report.to_json())?;
    }
    if let Some(file) = junit {
        file.write(&junit::verify(&report))?;
    }
    if let Some(file) = html {
        file.write(&html::render(&report))?;
    }
    // Whoever does not read to the end still gets the reports and the verdict.
    let colour = text::coloured();
    unless_closed(text::write_verify(&report, &mut stdout().lock(), colour))?;
    Ok(ExitCode::from(report.exit_code(&verification.named)))
}
