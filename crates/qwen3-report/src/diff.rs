//! What got worse from one report to the next, of `cargo xtask verify` or of `cargo xtask parity`.

mod display;
mod read;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::read::{Report, Run};

/// Arguments of `cargo xtask diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The earlier report, as `--json` of verify or parity writes it.
    old: PathBuf,
    /// The later report, of the same command.
    new: PathBuf,
}

/// Prints what differs; returns 1 when something got worse.
///
/// # Errors
/// When a file cannot be read or is no such report.
pub fn run(args: &Args) -> Result<u8> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let names = [&args.old, &args.new].map(|file| file.display().to_string());
    let diff = compare(&old, &new, [&names[0], &names[1]])?;
    // A reader that has seen enough is no error.
    match writeln!(stdout().lock(), "{diff}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error)?,
        _ => Ok(diff.exit_code()),
    }
}

fn read(file: &Path) -> Result<Value> {
    let place = || file.display().to_string();
    // Opening a pipe would wait for somebody who writes to it.
    let metadata = fs::metadata(file).with_context(place)?;
    ensure!(metadata.is_file(), "{}: not a regular file", place());
    let text = fs::read_to_string(file).with_context(place)?;
    serde_json::from_str(&text).with_context(place)
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run, such as `wgpu f32`, or the case on its backend; `report` for what holds for the whole.
    pub place: String,
    /// What differs, old and new.
    pub what: String,
}

/// Everything that differs between two reports; its `Display` is what the command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// `verify` or `parity`.
    pub kind: &'static str,
    /// Runs or cases that both reports have.
    pub runs: usize,
    /// Tensors that both reports have.
    pub tensors: usize,
    /// What got worse or is missing.
    pub worse: Vec<Change>,
    /// What got better.
    pub better: Vec<Change>,
    /// What only the new report has.
    pub new: Vec<Change>,
    /// What is neither: times, ties, and what was compared with what.
    pub notes: Vec<Change>,
}

impl Diff {
    /// The command's exit code: 1 when anything got worse, else 0. (2 is for an error of [`compare`].)
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.worse.is_empty())
    }
}

/// Compares an old report with a new one.
///
/// Worse are: a status that changes to anything but a pass, except from crash to fail; a tensor that is now
/// beyond its limit; an error over its limit that more than doubled and is above 0.1; a token that is now wrong
/// and no tie; a first divergence that moved forward; and whatever the new report lacks, but for what was
/// unavailable. `names` are for errors.
///
/// # Errors
/// When a value is no such report of schema 1, or when both are of different kinds.
pub fn compare(old: &Value, new: &Value, names: [&str; 2]) -> Result<Diff> {
    let (old, new) = (Report::read(old, names[0])?, Report::read(new, names[1])?);
    ensure!(
        old.kind == new.kind,
        "{} is a {} report and {} is a {} report",
        names[0],
        old.kind,
        names[1],
        new.kind
    );
    let mut diff = Diff {
        kind: new.kind,
        ..Diff::default()
    };
    for (name, before) in &old.facts {
        let after = new.facts.get(name).map_or("none", String::as_str);
        if before != after {
            let what = format!("{name}: {before} -> {after}");
            diff.notes.push(Change {
                place: "report".into(),
                what,
            });
        }
    }
    let (before, after) = (
        numbered(&old.runs, Run::name),
        numbered(&new.runs, Run::name),
    );
    let (mut missing, mut added) = (Vec::new(), Vec::new());
    for (key, run) in &before {
        match after.get(key) {
            Some(other) => diff.run(run, other),
            // It never said anything.
            None if run.status == "unavailable" => diff.notes.push(run.change("missing".into())),
            None => missing.push(*run),
        }
    }
    for (key, run) in &after {
        if !before.contains_key(key) {
            added.push(*run);
        }
    }
    let was = |run: &Run| format!("missing; was {}", run.status);
    diff.worse.extend(absent(&missing, &new, "missing: ", was));
    let is = |run: &Run| run.status.clone();
    diff.new.extend(absent(&added, &old, "", is));
    Ok(diff)
}

/// Says of each run that it is absent from `other`; of a parity report that lacks a whole backend only once.
fn absent(runs: &[&Run], other: &Report, all: &str, one: impl Fn(&Run) -> String) -> Vec<Change> {
    let (mut changes, mut cases) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    for run in runs {
        let known = other.runs.iter().any(|other| other.place == run.place);
        match &run.case {
            Some(case) if !known => cases.entry(&run.place).or_default().push(case),
            _ => changes.push(run.change(one(run))),
        }
    }
    changes.extend(cases.into_iter().map(|(place, cases)| Change {
        place: place.into(),
        what: format!("{all}{}", run::names(&cases, "case")),
    }));
    changes
}

/// Elements by name and by how many of the name came before.
fn numbered<T>(elements: &[T], name: impl Fn(&T) -> &str) -> BTreeMap<(String, usize), &T> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let number = |element| {
        let count = seen.entry(name(element).to_owned()).or_default();
        *count += 1;
        ((name(element).to_owned(), *count), element)
    };
    elements.iter().map(number).collect()
}
