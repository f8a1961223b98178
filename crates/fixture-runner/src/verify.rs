//! `verify`: a checkpoint on some backends, or somebody's activations, against a reference, layer by layer.

mod activations;
mod consensus;
mod html;
mod job;
mod judge;
mod junit;
mod layer_results;
mod limits;
mod logits;
mod memory;
mod observe;
mod recording;
mod reference;
mod report;
mod run;
#[cfg(test)]
mod sample;
mod subject;
mod text;
mod verification;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

pub use activations::Activations;
pub use job::{Job, Said};
pub use limits::Limits;
pub use logits::best;
pub use observe::observe;

use crate::backend::Backend;
use crate::failure::unless_closed;
use crate::manifest::TestDType;
use crate::report_file::ReportFile;
use job::Mode;
use limits::Preset;
use verification::Verification;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a directory in Hugging Face's layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What should come out: an npz as tools/extract_reference.py writes it. Without one, the backends
    /// are compared with each other.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Activations to check instead of ours, npz or safetensors, under the reference's keys, any subset.
    #[arg(long, value_name = "FILE", requires = "reference")]
    observed: Option<PathBuf>,
    /// ndarray, flex, wgpu, tch, cuda, several with commas, or all (the first four).
    #[arg(long, value_delimiter = ',', default_value = "ndarray")]
    backend: Vec<String>,
    /// The dtype to run in; with --observed, the one that the activations were made in.
    #[arg(long, default_value = "f32")]
    dtype: TestDType,
    /// How layers get their input: accumulated, isolated, patched, or several with commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "accumulated,isolated,patched"
    )]
    mode: Vec<Mode>,
    /// Only these layers: 3..7, 3..=6, 3.. or 3. Without the first, the reference's input is used; without
    /// the last, there are no logits.
    #[arg(long, value_name = "A..B")]
    layers: Option<String>,
    /// Fixed thresholds instead of calibrated limits.
    #[arg(long)]
    preset: Option<Preset>,
    /// Without a reference: the prompt's token ids, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ID",
        conflicts_with = "reference"
    )]
    ids: Vec<u32>,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report for people to this file, with nothing to load from elsewhere.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Report a backend as unavailable without trying it: NAME=REASON.
    #[arg(long, hide = true, value_parser = crate::name_and_reason)]
    unavailable: Vec<(Backend, String)>,
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
    let mut inputs: Vec<PathBuf> = [&args.reference, &args.observed]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    inputs.extend(
        std::fs::read_dir(&args.model)
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path()),
    );
    let prepare = |file: &Option<PathBuf>| {
        let file = file.as_ref();
        file.map(|file| ReportFile::prepare(file, inputs.iter().map(PathBuf::as_path)))
            .transpose()
    };
    let (json, junit, html) = (
        prepare(&args.json)?,
        prepare(&args.junit)?,
        prepare(&args.html)?,
    );
    ReportFile::check_distinct(
        &[&json, &junit, &html]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>(),
    )?;

    let mut verification = Verification::open(args)?;
    let report = verification.run()?;
    let value = serde_json::to_value(&report)?;
    if let Some(file) = json {
        file.write(&(serde_json::to_string_pretty(&value)? + "\n"))?;
    }
    if let Some(file) = junit {
        file.write(&junit::render(&value))?;
    }
    if let Some(file) = html {
        file.write(&html::render(&value))?;
    }
    // Whoever does not read to the end still gets the reports and the verdict.
    unless_closed(text::print(&report))?;
    Ok(ExitCode::from(report.exit_code(&verification.named)))
}
