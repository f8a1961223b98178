//! `parity`: the cases of a manifest on some backends.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qwen3_command::{OutputFile, ParityArgs, Temporary, backends, named, printable, unless_closed};
use qwen3_report::text::{Look, ParityText, write_listed};
use qwen3_report::{BURN_VERSION, ParityReport, Status, junit};

use crate::lanes::Work;
use crate::manifest::{Case, Manifest};
use crate::unavailable::Unavailable;

/// Arguments of `parity`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    shared: ParityArgs,
    #[command(flatten)]
    unavailable: Unavailable,
}

/// Runs cases and reports; gives the exit code.
///
/// # Errors
/// Usage, a bad fixture, or a report that cannot be written.
pub fn parity(args: &Args) -> Result<ExitCode> {
    let start = Instant::now();
    let options = &args.shared;
    let file = options.manifest.as_deref().unwrap_or(Path::new("manifest.json"));
    let prepare = |flag, to: &Option<PathBuf>| {
        to.as_deref().map(|to| OutputFile::prepare(flag, to, [file])).transpose()
    };
    let (json, junit_file) = (prepare("--json", &options.json)?, prepare("--junit", &options.junit)?);
    OutputFile::check_distinct(&[&json, &junit_file].into_iter().flatten().collect::<Vec<_>>())?;
    let manifest = Manifest::read(file)?;
    let cases = select(&manifest, options.filter.as_deref())?;
    let slow = options.slow || options.list || options.filter.is_some();
    let (cases, left_out): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| slow || !case.is_slow());
    if options.list {
        unless_closed(list(&cases))?;
        return Ok(ExitCode::SUCCESS);
    }
    check_hashes(&manifest, &cases)?;
    let _temporary = Temporary::of_process().context("no temporary folder")?;

    let mut out = stdout();
    writeln!(out, "burn {BURN_VERSION}; oracle: {}", printable(&manifest.oracle()))?;
    let program = std::env::current_exe().context("this program's own path")?;
    let mut report = ParityReport::default();
    let mut text = ParityText::new(Look { fail_only: options.fail_only, ..Look::of_stdout() });
    let work = Work {
        program: &program,
        manifest: file,
        cases: &cases,
        dtypes: &options.dtype,
        kernels: &options.kernels,
        unavailable: &args.unavailable,
    };
    work.run(backends(&options.backend), &mut |result| {
        text.row(&mut stdout().lock(), &result)?;
        report.results.push(result);
        Ok(())
    })?;
    text.summary(&mut out, &report, start.elapsed().as_secs_f64())?;
    if let [first, ..] = &left_out[..] {
        let (count, id) = (left_out.len(), printable(&first.id));
        writeln!(out, "left out: {count} slow, {id} (`--slow`, or `--filter`)")?;
    }
    if let Some(json) = json {
        json.write(&report.to_json())?;
    }
    if let Some(file) = junit_file {
        file.write(&junit::parity(&report))?;
    }
    let named = named(&options.backend);
    let mut results = report.results.iter();
    let missing =
        results.any(|result| result.status == Status::Unavailable && named.contains(&result.backend));
    let failed = report.results.iter().any(|result| result.status.failed());
    let nothing_ran = report.count(Status::Pass) == 0;
    Ok(ExitCode::from(if failed {
        1
    } else if missing || nothing_ran {
        3
    } else {
        0
    }))
}

fn list(cases: &[&Case]) -> Result<()> {
    let mut out = stdout().lock();
    for case in cases {
        write_listed(&mut out, Look::of_stdout(), &case.id, case.kind(), &case.description)?;
    }
    Ok(())
}

fn select<'a>(manifest: &'a Manifest, filter: Option<&str>) -> Result<Vec<&'a Case>> {
    let matches =
        |case: &&Case| filter.is_none_or(|text| case.id.contains(text) || case.kind().name().contains(text));
    let cases = manifest.cases.iter().filter(matches).collect::<Vec<_>>();
    ensure!(
        !cases.is_empty(),
        "no case matches {:?}; `--list` shows all {}",
        filter.unwrap_or_default(),
        manifest.cases.len()
    );
    Ok(cases)
}

/// Checks the hash of everything the cases use.
fn check_hashes(manifest: &Manifest, cases: &[&Case]) -> Result<()> {
    let checkpoints = cases.iter().filter_map(|case| case.checkpoint());
    for name in checkpoints.collect::<BTreeSet<_>>() {
        manifest.verify_checkpoint(name).with_context(|| format!("checkpoint {name}"))?;
    }
    let data = cases.iter().filter_map(|case| case.data());
    let files = data.flat_map(|data| [&data.inputs.file, &data.expected.file]);
    for file in files.collect::<BTreeSet<_>>() {
        manifest.verify_file(file)?;
    }
    Ok(())
}
