//! Runs the parity cases of a manifest on Burn's backends and judges every tensor.
//!
//! `parity` supervises: it checks the fixtures' hashes, starts one `worker` process per backend,
//! hands out cases and collects verdicts. A worker computes a case ([`subject`]) and compares it with
//! the oracle's tensors ([`check`], [`metrics`]).
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
mod blame;
mod check;
mod child;
mod data;
mod error;
mod failure;
mod lanes;
mod manifest;
mod metrics;
mod protocol;
mod report;
mod report_file;
mod subject;
mod supervise;
mod tensors;
mod verify;
mod worker;

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::backend::Backend;
use crate::failure::unless_closed;
use crate::lanes::Work;
use crate::manifest::{Case, Manifest, TestDType};
use crate::protocol::Status;
use crate::report::Report;
use crate::report_file::ReportFile;

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
    Parity(Parity),
    /// Compare a checkpoint layer by layer with a reference, and name the cause when numbers differ.
    ///
    /// Exit codes: 0 all passed; 1 something differs or crashed; 2 usage or bad input; 3 nothing failed,
    /// but a backend asked for by name is unavailable on this machine.
    Verify(verify::Args),
    /// Run a model layer by layer and write what passes through it (started by `verify`).
    #[command(hide = true)]
    Observe(verify::Job),
    /// Serve jobs over standard input (started by `parity`).
    #[command(hide = true)]
    Worker {
        #[arg(long)]
        backend: Backend,
        #[arg(long)]
        manifest: PathBuf,
    },
}

#[derive(Args)]
struct Parity {
    /// ndarray, flex, wgpu, tch, cuda, several with commas, or all (the first four).
    #[arg(long, value_delimiter = ',', default_value = "ndarray")]
    backend: Vec<String>,
    /// f32, f16, bf16, or several with commas; all that a backend computes in when not given.
    #[arg(long, value_delimiter = ',')]
    dtype: Vec<TestDType>,
    /// Only cases whose id or kind contains this text.
    #[arg(long)]
    filter: Option<String>,
    /// Also the slow cases, which otherwise run when --filter picks them: minutes on a software GPU.
    #[arg(long)]
    slow: bool,
    /// The manifest.
    #[arg(long, default_value = "manifest.json")]
    manifest: PathBuf,
    /// Write the results to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// List the cases and run nothing.
    #[arg(long)]
    list: bool,
    /// Report a backend as unavailable without trying it: NAME=REASON.
    #[arg(long, hide = true, value_parser = name_and_reason)]
    unavailable: Vec<(Backend, String)>,
}

fn name_and_reason(text: &str) -> Result<(Backend, String), String> {
    let (name, reason) = text.split_once('=').ok_or("expected NAME=REASON")?;
    Ok((name.parse()?, reason.into()))
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Parity(options) => parity(&options),
        Command::Verify(args) => verify::verify(&args),
        Command::Observe(job) => observe(&job),
        Command::Worker { backend, manifest } => {
            worker::serve(backend, &manifest).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", failure::line(&error));
        ExitCode::from(2)
    })
}

/// Runs a job of `verify`; bad input is told on standard output, for `verify` to report.
fn observe(job: &verify::Job) -> Result<ExitCode> {
    let mut say = |said: verify::Said| {
        let line = serde_json::to_string(&said)?;
        println!("{}{line}", protocol::REPLY_PREFIX);
        Ok(())
    };
    if let Err(error) = verify::observe(job, &mut say) {
        say(verify::Said::BadInput(failure::line(&error)))?;
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

fn parity(options: &Parity) -> Result<ExitCode> {
    let start = Instant::now();
    let (backends, named) = parse_backends(&options.backend)?;
    let manifest = Manifest::read(&options.manifest)?;
    let cases = select(&manifest, options.filter.as_deref())?;
    let slow = options.slow || options.list || options.filter.is_some();
    let (cases, left_out) = match slow {
        true => (cases, Vec::new()),
        false => cases.into_iter().partition(|case| !case.kind.is_slow()),
    };
    if options.list {
        unless_closed(list(&cases))?;
        return Ok(ExitCode::SUCCESS);
    }
    verify(&manifest, &cases)?;
    let inputs = || [options.manifest.as_path()];
    let json = options.json.as_deref();
    let json = json
        .map(|file| ReportFile::prepare(file, inputs()))
        .transpose()?;

    writeln!(
        stdout(),
        "burn {}; oracle: {}",
        report::BURN_VERSION,
        manifest.oracle()
    )?;
    let program = std::env::current_exe().context("this program's own path")?;
    let mut report = Report::new();
    let work = Work {
        program: &program,
        manifest: &options.manifest,
        cases: &cases,
        dtypes: &options.dtype,
        unavailable: &options.unavailable,
    };
    work.run(&backends, &mut |result| report.add(result))?;
    report.summary(start.elapsed().as_secs_f64())?;
    if let [first, ..] = &left_out[..] {
        let count = left_out.len();
        writeln!(
            stdout(),
            "left out: {count} slow, {} (`--slow`, or `--filter`)",
            first.id
        )?;
    }
    if let Some(json) = json {
        json.write(&report.to_json()?)?;
    }
    let failed = report.count(Status::Fail) + report.count(Status::Crash);
    let missing = report
        .results
        .iter()
        .any(|result| result.status == Status::Unavailable && named.contains(&result.backend));
    let nothing_ran = report.count(Status::Pass) == 0;
    Ok(ExitCode::from(match failed {
        0 if missing || nothing_ran => 3,
        0 => 0,
        _ => 1,
    }))
}

fn list(cases: &[&Case]) -> Result<()> {
    let mut out = stdout().lock();
    for case in cases {
        let (id, kind) = (&case.id, case.kind.to_string());
        writeln!(out, "{id:<46} {kind:<28} {}", case.description)?;
    }
    Ok(())
}

/// The backends asked for, each once, and those among them that were asked for by name.
fn parse_backends(names: &[String]) -> Result<(Vec<Backend>, Vec<Backend>)> {
    let mut backends = Vec::new();
    for name in names.iter().filter(|name| *name != "all") {
        backends.push(name.parse().map_err(anyhow::Error::msg)?);
    }
    let named = backends.clone();
    if names.iter().any(|name| name == "all") {
        backends.extend(Backend::ALL);
    }
    backends.sort();
    backends.dedup();
    Ok((backends, named))
}

fn select<'a>(manifest: &'a Manifest, filter: Option<&str>) -> Result<Vec<&'a Case>> {
    let matches = |case: &&Case| {
        filter.is_none_or(|text| case.id.contains(text) || case.kind.to_string().contains(text))
    };
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
fn verify(manifest: &Manifest, cases: &[&Case]) -> Result<()> {
    let checkpoints = cases.iter().filter_map(|case| case.checkpoint.as_ref());
    for name in checkpoints.collect::<BTreeSet<_>>() {
        manifest
            .verify_checkpoint(name)
            .with_context(|| format!("checkpoint {name}"))?;
    }
    let lists = cases.iter().flat_map(|case| [&case.inputs, &case.expected]);
    let files = lists.flatten().map(|list| &list.file);
    for file in files.collect::<BTreeSet<_>>() {
        manifest.verify_file(file)?;
    }
    Ok(())
}
