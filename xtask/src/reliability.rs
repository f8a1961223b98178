//! `cargo xtask reliability`: makes many wild checkpoints, judges honest and mistaken runs on them, gives the programs
//! hostile input, and writes what came of it to docs/RELIABILITY.md.

mod backends;
mod document;
mod survey;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};

use anyhow::{Context, Result, ensure};
use qwen3_fuzz::report::Report;
use tempfile::NamedTempFile;

use self::document::Document;
use self::survey::Survey;
use crate::fixtures::oracle;
use crate::workspace::root;
use crate::{fuzz, launch};
use qwen3_command::child;

/// The end of `cargo xtask reliability --help`.
pub const NOTES: &str = "\
Needs the oracle's Python packages (see `cargo xtask fixtures --help`), every backend, and about an hour for 100
checkpoints on two cores. Exit code 1 when an honest run was accused, or an input did what it must not.

Examples:
  cargo xtask reliability
  cargo xtask reliability --checkpoints 8 --sized-on 8 --minutes 1 --out try.md";

/// Arguments of `cargo xtask reliability`.
#[derive(clap::Args)]
pub struct Args {
    /// How many checkpoints.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    checkpoints: u32,
    /// On how many of them mistakes of many sizes are made.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    sized_on: u32,
    /// Of the first checkpoint's weights; the next ones count on.
    #[arg(long, value_name = "N", default_value_t = 1001)]
    seed: u32,
    /// How long hostile inputs are tried.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// Where to write; docs/RELIABILITY.md when left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep the checkpoints in this folder, or use those that are there; a temporary one when left out.
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

impl Args {
    /// The command that does the same again.
    fn command(&self) -> String {
        let Self { checkpoints, sized_on, seed, minutes, .. } = self;
        format!(
            "cargo xtask reliability --checkpoints {checkpoints} --sized-on {sized_on} --seed {seed} --minutes \
             {minutes}"
        )
    }
}

/// Runs everything; returns 1 when an honest run was accused or an input did what it must not.
///
/// # Errors
/// When the oracle or a program fails.
pub fn run(args: &Args) -> Result<u8> {
    let out = args.out.clone().unwrap_or_else(|| root().join("docs/RELIABILITY.md"));
    launch::check_outputs([("--out", &Some(out.clone()))])?;
    let temporary = tempfile::tempdir()?;
    let work = args.work.as_deref().unwrap_or(temporary.path());
    let folders = checkpoints(args, work)?;
    let runner = backends::build()?;
    let survey = surveyed(&folders, &runner)?;
    let fuzz = fuzzed(args, temporary.path())?;
    let document = Document { command: args.command(), seed: args.seed, survey: &survey, fuzz: &fuzz };
    let file =
        NamedTempFile::new_in(out.parent().filter(|folder| folder.is_dir()).unwrap_or(Path::new(".")))?;
    fs::write(&file, document.to_string())?;
    file.persist(&out).with_context(|| format!("{} cannot be written", out.display()))?;
    let accused = survey.honest.iter().filter(|run| run.accused.is_some()).count();
    println!(
        "{} honest runs, {accused} accused; {} mistaken runs; {} hostile inputs, {} findings; {}",
        survey.honest.len(),
        survey.sized.len(),
        fuzz.classes.values().map(|class| class.tried).sum::<u64>(),
        fuzz.findings.len(),
        out.display()
    );
    Ok(u8::from(accused > 0 || !fuzz.findings.is_empty()))
}

/// Judges all runs on the checkpoints, some at a time: each alone leaves processors idle.
fn surveyed(folders: &[PathBuf], runner: &Path) -> Result<Survey> {
    let next = AtomicUsize::new(0);
    let some = || {
        let (mut survey, temporary) = (Survey::default(), tempfile::tempdir()?);
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(folder) = folders.get(number)
        {
            eprintln!("xtask: checkpoint {} of {}: {}", number + 1, folders.len(), folder.display());
            survey.transformers(folder, temporary.path())?;
            backends::runs(runner, folder, temporary.path(), &mut survey)?;
        }
        Ok(survey)
    };
    let at_once = 2 * available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(some)).collect();
        let surveys = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        surveys.reduce(|all, more| Ok(all?.and(more?))).expect("there is a thread")
    })
}

/// The checkpoints' folders, made where they are not there.
fn checkpoints(args: &Args, work: &Path) -> Result<Vec<PathBuf>> {
    let folder = work.join("checkpoints");
    if !folder.is_dir() {
        let made = work.join("checkpoints.made");
        let mut oracle = oracle(&root(), "wild")?;
        oracle.arg("--output-dir").arg(&made).arg(format!("--count={}", args.checkpoints));
        oracle.arg(format!("--seed={}", args.seed)).arg(format!("--sized-on={}", args.sized_on));
        eprintln!("xtask: running the oracle (Transformers on {} checkpoints)", args.checkpoints);
        ensure!(child::status(&mut oracle)?.success(), "the oracle failed");
        fs::rename(&made, &folder).with_context(|| format!("{}", folder.display()))?;
    }
    let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders)
}

/// What hostile input came to.
fn fuzzed(args: &Args, folder: &Path) -> Result<Report> {
    let file = folder.join("fuzz.json");
    let code = fuzz::run(&fuzz::Args::minutes(args.minutes, file.clone()))?;
    ensure!(code < 2, "fuzz ended with {code}");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", file.display()))
}
