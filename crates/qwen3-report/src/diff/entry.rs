//! What is compared by its name: runs, cases and rows.

use super::judged::Judged;
use super::timed::Timed;
use super::{Change, Diff};
use crate::{AnyReport, Status};

/// One of what a report lists.
pub enum Entry<'a> {
    /// A run of a verification, a case of parity.
    Judged(Judged<'a>),
    /// A row of a benchmark.
    Timed(Timed<'a>),
}

impl Entry<'_> {
    /// The place, and the case or workload; unique but for what a report has twice.
    pub fn name(&self) -> &str {
        match self {
            Self::Judged(judged) => &judged.name,
            Self::Timed(timed) => &timed.name,
        }
    }

    /// The backend or other engine, dtype and variant.
    pub fn place(&self) -> &str {
        match self {
            Self::Judged(judged) => &judged.place,
            Self::Timed(timed) => &timed.place,
        }
    }

    /// The case or workload, where a place has many.
    pub fn part(&self) -> Option<String> {
        match self {
            Self::Judged(judged) => judged.case.map(Into::into),
            Self::Timed(timed) => Some(timed.figures.workload.to_string()),
        }
    }

    /// What came of it: `pass`, `12.3 tok/s`.
    pub fn outcome(&self) -> String {
        match self {
            Self::Judged(judged) => judged.status.to_string(),
            Self::Timed(timed) => timed.median(),
        }
    }

    /// Is it of ours, and not of another engine?
    pub fn ours(&self) -> bool {
        match self {
            Self::Judged(_) => true,
            Self::Timed(timed) => timed.ours,
        }
    }

    /// Is it worse not to have it any more?
    pub fn missed(&self) -> bool {
        match self {
            Self::Judged(judged) => judged.status != Status::Unavailable,
            Self::Timed(timed) => timed.ours,
        }
    }

    /// A change of this entry.
    pub fn change(&self, what: String) -> Change {
        Change { place: self.name().into(), what }
    }
}

impl Diff {
    /// Adds what differs between an old entry and the new one of its name.
    ///
    /// # Panics
    /// When one is judged and the other timed: reports of two kinds are not compared.
    pub fn entry(&mut self, old: &Entry, new: &Entry) {
        match (old, new) {
            (Entry::Judged(old), Entry::Judged(new)) => self.run(old, new),
            (Entry::Timed(old), Entry::Timed(new)) => self.row(old, new),
            _ => unreachable!("{} and {} are of two kinds of reports", old.name(), new.name()),
        }
    }
}

/// The runs of a verification, the results of a parity report, all rows of a benchmark.
pub fn entries(report: &AnyReport) -> Vec<Entry<'_>> {
    match report {
        AnyReport::Verify(report) => report.runs.iter().map(|run| Entry::Judged(run.into())).collect(),
        AnyReport::Parity(report) => report.results.iter().map(|case| Entry::Judged(case.into())).collect(),
        AnyReport::Bench(report) => {
            let ours = report.rows.iter().map(|row| Entry::Timed(row.into()));
            ours.chain(report.peers.iter().map(|row| Entry::Timed(row.into()))).collect()
        }
    }
}
