//! `qwen3-fuzz`: hostile input for the project's programs, which `cargo xtask fuzz` builds and names.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use qwen3_fuzz::campaign::{Campaign, LIMITS, Only};
use qwen3_fuzz::corpus;
use qwen3_fuzz::format::Format;
use qwen3_fuzz::process::Limits;
use qwen3_fuzz::program::Programs;
use qwen3_fuzz::report::Report;
use qwen3_fuzz::seeds::Seeds;

/// Gives hostile input to the project's programs.
///
/// Exit codes: 0 nothing wrong; 1 findings; 2 usage or set-up.
#[derive(Parser)]
struct Args {
    /// How long to try inputs, after the corpus.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// The most inputs to try.
    #[arg(long)]
    inputs: Option<u64>,
    /// Of the random numbers.
    #[arg(long, default_value_t = 11)]
    seed: u64,
    /// The formats, separated by commas; all when left out.
    #[arg(long, value_delimiter = ',', value_parser = format)]
    format: Vec<Format>,
    /// One input alone, FORMAT:INDEX, or a case of the corpus, corpus:NAME.
    #[arg(long)]
    only: Option<String>,
    /// The limit of time for an input, in seconds.
    #[arg(long, default_value_t = LIMITS.time.as_secs_f64())]
    limit_seconds: f64,
    /// The limit of resident memory for an input, in MB.
    #[arg(long, default_value_t = LIMITS.memory >> 20)]
    limit_mb: u64,
    /// How many inputs at once; as many as there are processors, up to 4, when left out.
    #[arg(long)]
    at_once: Option<usize>,
    /// The folder for the files of findings; a temporary one when left out.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Write the results to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The repository.
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    qwen3: Option<PathBuf>,
    #[arg(long)]
    fixture_runner: Option<PathBuf>,
    #[arg(long)]
    qwen3_verify: Option<PathBuf>,
    #[arg(long)]
    xtask: Option<PathBuf>,
}

fn format(name: &str) -> Result<Format, String> {
    let names = || Format::ALL.map(Format::name).join(", ");
    Format::named(name).ok_or_else(|| format!("one of {}", names()))
}

fn main() -> ExitCode {
    match fuzz(&Args::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", qwen3_command::line(&error));
            ExitCode::from(2)
        }
    }
}

fn fuzz(args: &Args) -> Result<u8> {
    let minutes = args.minutes;
    ensure!((0.0..1e6).contains(&minutes), "--minutes {minutes} is not between 0 and a million");
    ensure!((0.1..1e6).contains(&args.limit_seconds), "--limit-seconds {}", args.limit_seconds);
    let start = Instant::now();
    let programs = Programs {
        qwen3: args.qwen3.clone(),
        fixture_runner: args.fixture_runner.clone(),
        qwen3_verify: args.qwen3_verify.clone(),
        xtask: args.xtask.clone(),
    };
    let limits = Limits { time: Duration::from_secs_f64(args.limit_seconds), memory: args.limit_mb << 20 };
    let seeds = Seeds::new(&args.root, &programs)?;
    // A temporary folder is kept when there is something in it.
    let temporary = tempfile::Builder::new().prefix("qwen3-fuzz-findings-").tempdir()?;
    let keep = args.keep.clone().unwrap_or_else(|| temporary.path().into());
    let at_once = args.at_once.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |processors| processors.get().min(4))
    });
    let tell = |text: &str| {
        let _ = stdout().lock().write_all(text.as_bytes());
    };
    let campaign = Campaign {
        programs: &programs,
        seeds: &seeds,
        seed: args.seed,
        limits,
        at_once,
        keep: Some(keep),
        tell: &tell,
    };
    let report = Mutex::new(Report {
        schema: 1,
        seed: args.seed,
        limit_seconds: args.limit_seconds,
        limit_mb: args.limit_mb,
        ..Report::default()
    });
    let folder = args.root.join("fixtures/hostile");
    let mut cases = corpus::read(&folder)?;
    if let Some(only) = &args.only {
        if let Some(name) = only.strip_prefix("corpus:") {
            cases.retain(|case| case.name == name);
            ensure!(!cases.is_empty(), "--only {only}: no such case");
            campaign.corpus(&cases, &folder, &report)?;
        } else {
            let only: Only = only.parse().map_err(anyhow::Error::msg).context("--only")?;
            campaign.one(only, &report)?;
        }
    } else {
        let formats = if args.format.is_empty() { &Format::ALL[..] } else { &args.format };
        campaign.check_tame(formats)?;
        if args.format.is_empty() {
            campaign.corpus(&cases, &folder, &report)?;
        }
        let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        campaign.inputs(formats, args.inputs.unwrap_or(u64::MAX), end, &report)?;
    }
    let mut report = report.into_inner().expect("no panic while held");
    report.seconds = start.elapsed().as_secs_f64();
    report.findings.sort_by(|a, b| a.input.cmp(&b.input));
    print(args, &report, temporary)?;
    Ok(report.exit_code())
}

fn print(args: &Args, report: &Report, temporary: tempfile::TempDir) -> Result<()> {
    let mut out = stdout().lock();
    write!(out, "{report}")?;
    if let [first, ..] = &report.findings[..] {
        writeln!(out, "again: cargo xtask fuzz --seed {} --only {}", report.seed, first.input)?;
        if args.keep.is_none() {
            writeln!(out, "files: {}", temporary.keep().display())?;
        }
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(report)? + "\n")
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}
