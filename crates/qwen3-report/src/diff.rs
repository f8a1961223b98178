//! What got worse from one report to the next, of `verify`, `parity` or `bench`.

mod display;
mod entry;
mod facts;
mod judged;
mod row;
mod run;
#[cfg(test)]
mod tests;
mod timed;

use std::collections::BTreeMap;
use std::path::Path;

pub use self::display::write_diff;
use self::entry::{Entry, entries};
use self::facts::{MACHINE, changes};
use crate::{AnyReport, ReadError, ReportKind};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The run, such as `wgpu f32`, or the case or workload on its backend; `report`, `machine` and so on for
    /// what holds for the whole.
    pub place: String,
    /// What differs, old and new.
    pub what: String,
}

/// Everything that differs between two reports; its `Display` is what [`write_diff`] writes, without colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The command of both.
    pub kind: ReportKind,
    /// What has to be known before anything below is believed.
    pub caution: Option<&'static str>,
    /// Runs, cases or rows that both reports have.
    pub runs: usize,
    /// Tensors that both reports have.
    pub tensors: usize,
    /// What got worse or is missing.
    pub worse: Vec<Change>,
    /// What got better.
    pub better: Vec<Change>,
    /// What only the new report has.
    pub new: Vec<Change>,
    /// What is neither: times of what was not timed for its own sake, ties, other engines, and what was compared
    /// with what.
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
        /// Its command.
        old_kind: ReportKind,
        /// The new report's file.
        new: String,
        /// Its command.
        new_kind: ReportKind,
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
/// When a file is no report of schema 1 or has an impossible figure, or when both are of different kinds.
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
/// Of benchmarks, worse are: a median that is slower by more than 10 % while both spreads do not overlap; a peak of
/// memory that is higher by more than 10 %; a case more that fails, ids that are no longer equal, and a worst error
/// over its limit that grew as above; and rows that the new report lacks. Other engines' rows are notes.
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
    diff.notes = changes(old, new);
    if diff.notes.iter().any(|note| note.place == MACHINE) {
        diff.caution = Some("the machines differ, see below: only ratios within one run count");
    }
    let (old, new) = (entries(old), entries(new));
    let (before, after) = (numbered(&old, Entry::name), numbered(&new, Entry::name));
    let mut missing = Vec::new();
    for (key, entry) in &before {
        match after.get(key) {
            Some(other) => diff.entry(entry, other),
            // It never said anything, or nothing about ours.
            None if !entry.missed() => diff.notes.push(entry.change("missing".into())),
            None => missing.push(*entry),
        }
    }
    let added = after.iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, entry)| *entry);
    let (added, theirs): (Vec<&Entry>, Vec<&Entry>) = added.partition(|entry| entry.ours());
    let was = |entry: &Entry| format!("missing; was {}", entry.outcome());
    let noun = diff.kind.noun();
    diff.worse.extend(absent(&missing, &new, noun, "missing: ", was));
    diff.new.extend(absent(&added, &old, noun, "", |entry| entry.outcome()));
    diff.notes.extend(absent(&theirs, &old, noun, "new: ", |entry| format!("new: {}", entry.outcome())));
    Ok(diff)
}

/// Says of each entry that it is absent from `other`; of a whole backend that is, among cases or rows, only once.
fn absent(
    entries: &[&Entry],
    other: &[Entry],
    noun: &str,
    all: &str,
    one: impl Fn(&Entry) -> String,
) -> Vec<Change> {
    let (mut changes, mut parts) = (Vec::new(), BTreeMap::<&str, Vec<String>>::new());
    for entry in entries {
        let known = other.iter().any(|other| other.place() == entry.place());
        match entry.part() {
            Some(part) if !known => parts.entry(entry.place()).or_default().push(part),
            _ => changes.push(entry.change(one(entry))),
        }
    }
    changes.extend(parts.into_iter().map(|(place, parts)| {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Change { place: place.into(), what: format!("{all}{}", run::names(&parts, noun)) }
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
