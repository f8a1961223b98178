//! What got worse from one report to the next, of `verify` or of `parity`.

mod display;
mod entry;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use self::entry::{Entry, entries, facts};
use crate::{AnyReport, ReadError, Status};

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

/// Why two reports cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// One of them cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They are of different commands.
    #[error("{old} is a {old_kind} report and {new} is a {new_kind} report")]
    Kinds {
        /// The old report's file.
        old: String,
        /// `verify` or `parity`.
        old_kind: &'static str,
        /// The new report's file.
        new: String,
        /// `verify` or `parity`.
        new_kind: &'static str,
    },
}

impl Diff {
    /// The command's exit code: 1 when anything got worse, else 0. (2 is for a [`DiffError`].)
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.worse.is_empty())
    }
}

/// Reads two reports and compares them as [`compare`] does.
///
/// # Errors
/// When a file is no report of schema 1, or when both are of different kinds.
pub fn compare_files(old: &Path, new: &Path) -> Result<Diff, DiffError> {
    let names = [old, new].map(|file| file.display().to_string());
    compare(&AnyReport::read(old)?, &AnyReport::read(new)?, [&names[0], &names[1]])
}

/// Compares an old report with a new one.
///
/// Worse are: a status that changes to anything but a pass, except from crash to fail; a tensor that is now
/// beyond its limit; an error over its limit that more than doubled and is above 0.1; a token that is now wrong
/// and no tie; a first divergence that moved forward; and whatever the new report lacks, but for what was
/// unavailable. `names` are for errors.
///
/// # Errors
/// When both are of different kinds.
pub fn compare(old: &AnyReport, new: &AnyReport, names: [&str; 2]) -> Result<Diff, DiffError> {
    if old.kind() != new.kind() {
        return Err(DiffError::Kinds {
            old: names[0].into(),
            old_kind: old.kind(),
            new: names[1].into(),
            new_kind: new.kind(),
        });
    }
    let mut diff = Diff { kind: new.kind(), ..Diff::default() };
    for ((name, before), (_, after)) in facts(old).into_iter().zip(facts(new)) {
        if before != after {
            let what = format!("{name}: {before} -> {after}");
            let place = "report".into();
            diff.notes.push(Change { place, what });
        }
    }
    let (old, new) = (entries(old), entries(new));
    let (before, after) = (numbered(&old, |run| &run.name), numbered(&new, |run| &run.name));
    let mut missing = Vec::new();
    for (key, run) in &before {
        match after.get(key) {
            Some(other) => diff.run(run, other),
            // It never said anything.
            None if run.status == Status::Unavailable => diff.notes.push(run.change("missing".into())),
            None => missing.push(*run),
        }
    }
    let added = after.iter().filter(|(key, _)| !before.contains_key(key));
    let added: Vec<&Entry> = added.map(|(_, run)| *run).collect();
    let was = |run: &Entry| format!("missing; was {}", run.status);
    diff.worse.extend(absent(&missing, &new, "missing: ", was));
    diff.new.extend(absent(&added, &old, "", |run| run.status.to_string()));
    Ok(diff)
}

/// Says of each run that it is absent from `other`; of a parity report that lacks a whole backend only once.
fn absent(runs: &[&Entry], other: &[Entry], all: &str, one: impl Fn(&Entry) -> String) -> Vec<Change> {
    let (mut changes, mut cases) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    for run in runs {
        let known = other.iter().any(|other| other.place == run.place);
        match run.case {
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
fn numbered<'a, T>(elements: &'a [T], name: impl Fn(&'a T) -> &'a str) -> BTreeMap<(&'a str, usize), &'a T> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let number = |element| {
        let count = seen.entry(name(element)).or_default();
        *count += 1;
        ((name(element), *count), element)
    };
    elements.iter().map(number).collect()
}
