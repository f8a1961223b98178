//! What became of a checkpoint's weights: converted, quantised, merged or downloaded ones beside the original, tensor by
//! tensor, without running a model. A change is named when, made to the original, it gives what is found in some precision.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bounds;
mod configs;
mod examine;
mod formats;
mod groups;
mod head;
mod pair;
mod rank;
mod requantised;
mod row_findings;
mod rows;
mod sample;
mod source;
mod tensor;
mod whole;

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use qwen3_command::{DoctorArgs, OutputFile, progress, unless_closed};
use qwen3_report::doctor::DoctorReport;
use qwen3_report::html::render_doctor;
use qwen3_report::text::{Look, write_doctor};

use crate::examine::{Examined, examine};
use crate::source::Source;

/// Compares the checkpoints that the arguments name, and reports; gives the exit code: 0 when only precision differs, 1
/// when something is wrong.
///
/// # Errors
/// Bad input, or a report that cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let inputs: Vec<PathBuf> = [&args.model, &args.original].into_iter().flat_map(files).collect();
    let prepare = |flag, file: &Option<PathBuf>| {
        let inputs = inputs.iter().map(PathBuf::as_path);
        file.as_ref().map(|file| OutputFile::prepare(flag, file, inputs)).transpose()
    };
    let (json, html) = (prepare("--json", &args.json)?, prepare("--html", &args.html)?);
    OutputFile::check_distinct(&[&json, &html].into_iter().flatten().collect::<Vec<_>>())?;

    let say = |what: &str| progress::say("doctor", what);
    let report = doctor(&args.model, &args.original, &say);
    progress::done();
    let report = report?;
    if let Some(file) = json {
        file.write(&report.to_json())?;
    }
    if let Some(file) = html {
        file.write(&render_doctor(&report))?;
    }
    unless_closed(write_doctor(&report, &mut stdout().lock(), Look::of_stdout(), args.all))?;
    Ok(report.exit_code())
}

/// What became of the weights at `model`, which should be those at `original`; `say` is told what is looked at, from several
/// threads.
///
/// # Errors
/// When one of them cannot be opened, or the original is not sound.
pub fn doctor(model: &Path, original: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<DoctorReport> {
    let start = Instant::now();
    let (ours, theirs) = (Source::open(model)?, Source::open(original)?);
    theirs.check(original)?;
    let Examined { tensors, findings, values } = examine(&ours, &theirs, say)?;
    let named = |path: &Path, source: &Source| (path.display().to_string(), source.format());
    let mut report = DoctorReport::new(named(model, &ours), named(original, &theirs));
    (report.tensors, report.findings, report.values) = (tensors, findings, values);
    report.elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    report.finish();
    Ok(report)
}

/// What must not be written to: a file, and what is in a folder.
fn files(path: &PathBuf) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    inside.chain([path.clone()]).collect()
}
