//! `qwen3-bench`: rounds of processes that measure backends, dtypes and other engines, and the report of all.
//!
//! `cargo xtask bench` builds what is needed and starts it; a bundle holds it for machines without Rust.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod accuracy;
mod model;
mod rounds;
mod subject;
mod synthetic;

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use qwen3_bench::{assemble, machine};
use qwen3_command::{BenchArgs, OutputFile, named, unless_closed};
use qwen3_report::bench::Skipped;
use qwen3_report::text::{Look, write_bench};
use qwen3_report::{BenchReport, html, markdown};

use self::accuracy::Accuracies;
use self::model::Model;
use self::rounds::Rounds;
use self::subject::Subject;

const EXIT_CODES: &str = "\
Exit codes:
  0  everything was measured that can be had here
  1  a run failed or crashed, or parity fails on what was measured
  2  usage, or a bad model
  3  nothing failed, but a backend asked for by name has no figures on this machine";

/// Measures how fast Qwen3 loads, reads prompts and decodes, by backend and dtype, beside what the machine can do.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    shared: BenchArgs,
    #[command(flatten)]
    programs: Programs,
}

/// What is started, and where things lie.
#[derive(clap::Args)]
struct Programs {
    /// The program `qwen3`.
    #[arg(long, value_name = "FILE")]
    qwen3: PathBuf,
    /// The program `fixture-runner`, which says how right each backend is.
    #[arg(long, value_name = "FILE")]
    fixture_runner: PathBuf,
    /// The catalogue of its cases.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Where models of random weights are kept.
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// The folder of other engines' Python programs, and the interpreter for each: ENGINE=FILE.
    #[arg(long, value_name = "DIR")]
    peers_folder: Option<PathBuf>,
    /// What runs or is another engine: `transformers=PYTHON`, `llama.cpp=PYTHON`, `candle=PROGRAM`.
    #[arg(long, value_name = "ENGINE=FILE")]
    peer: Vec<String>,
    /// What is known not to work here, a backend or an engine, and why.
    #[arg(long, value_name = "NAME=REASON")]
    unavailable: Vec<String>,
}

fn main() -> ExitCode {
    let args = qwen3_command::arguments::<Args>();
    let begun = qwen3_command::on_signal(|_| false).context("signals cannot be handled");
    match begun.and_then(|()| run(&args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", qwen3_command::line(&error));
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<u8> {
    let Args { shared, programs } = args;
    let json = output("--json", &shared.json)?;
    let html = output("--html", &shared.html)?;
    let page = page(&shared.markdown)?;
    let files = [&json, &html, &page].map(|file| file.as_ref());
    OutputFile::check_distinct(&files.into_iter().flatten().collect::<Vec<_>>())?;
    let model = Model::open(shared, programs)?;
    let subjects = Subject::all(shared, programs, &model);
    let mut report =
        BenchReport { model: model.facts.clone(), machine: machine::machine(), ..BenchReport::default() };

    let rounds = Rounds::taken(subjects, shared);
    let measured = rounds.measured();
    let accuracies = Accuracies::told(programs, &measured)?;
    report.limits = rounds.limits;
    assemble(&mut report, &model.config, &rounds.processes, |label| accuracies.of(label));
    report.skipped.extend(rounds.absent.into_iter().map(|(who, reason)| Skipped {
        who,
        workload: None,
        reason,
    }));

    let mut out = stdout().lock();
    unless_closed(write_bench(&report, &mut out, Look::of_stdout()).and_then(|()| out.flush()))?;
    drop(out);
    if let Some(file) = json {
        file.write(&report.to_json())?;
    }
    if let Some(file) = html {
        file.write(&html::render_bench(&report))?;
    }
    if let (Some(file), Some(path)) = (page, &shared.markdown) {
        file.write(&with_tables(path, &markdown::bench(&report))?)?;
    }
    let wrong =
        report.rows.iter().any(|row| row.figures.accuracy.is_some_and(|accuracy| accuracy.failed > 0));
    let missing = named(&shared.backend)
        .into_iter()
        .any(|backend| !measured.iter().any(|(found, _, _)| *found == backend));
    Ok(match () {
        () if rounds.failed || wrong => 1,
        () if missing => 3,
        () => 0,
    })
}

/// Around what a benchmark writes into a document.
const MARKS: [&str; 2] =
    ["<!-- tables of `cargo xtask bench --markdown` -->", "<!-- end of the benchmark's tables -->"];

/// The document that tables go into, checked before anything is measured.
fn page(file: &Option<PathBuf>) -> Result<Option<OutputFile>> {
    if let Some(file) = file {
        with_tables(file, "")?;
    }
    output("--markdown", file)
}

/// The document with `tables` between its marks.
fn with_tables(file: &Path, tables: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("--markdown {}", file.display()))?;
    markdown::between(&text, MARKS, tables).with_context(|| {
        let [begin, end] = MARKS;
        format!("--markdown {}: it has no place for tables: `{begin}` and behind it `{end}`", file.display())
    })
}

fn output(flag: &'static str, file: &Option<PathBuf>) -> Result<Option<OutputFile>> {
    Ok(file.as_deref().map(|file| OutputFile::prepare(flag, file, [])).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
