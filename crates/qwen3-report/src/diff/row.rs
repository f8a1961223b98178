//! What differs between two rows of a benchmark.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::judged::shown;
use super::run::grew;
use super::timed::Timed;
use super::{Change, Diff};
use crate::bench::{Accuracy, GreedyIds, Standing};
use crate::measure::three_digits;

/// A median changes when one takes more than this many times as long as the other, and no sample of one lies
/// within the spread of the other.
pub const SLOWER: f64 = 1.1;
/// So do a peak of memory and a limit.
pub const MORE: f64 = 1.1;

impl Diff {
    /// Adds what differs between an old row and the new one of its workload.
    pub fn row(&mut self, old: &Timed, new: &Timed) {
        if let Some((slower, change)) = speed(old, new) {
            match (new.ours, slower) {
                (false, _) => self.notes.push(change),
                (true, true) => self.worse.push(change),
                (true, false) => self.better.push(change),
            }
        }
        if !new.ours {
            return;
        }
        self.runs += 1;
        if let (Some(before), Some(after)) = (old.figures.peak_rss_mb, new.figures.peak_rss_mb) {
            let what = format!("peak memory: {before:.0} MiB -> {after:.0} MiB");
            if after > MORE * before {
                once(&mut self.worse, &new.place, what);
            } else if before > MORE * after {
                once(&mut self.better, &new.place, what);
            }
        }
        self.accuracy(&new.place, old.figures.accuracy, new.figures.accuracy);
    }

    fn accuracy(&mut self, place: &str, old: Option<Accuracy>, new: Option<Accuracy>) {
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (None, None) => return,
            (Some(_), None) => return once(&mut self.worse, place, "parity: no longer run".into()),
            (None, Some(new)) => {
                let list = if new.standing() != Standing::Wrong { &mut self.new } else { &mut self.worse };
                let what = format!(
                    "parity: {} of {} cases fail, greedy ids {}",
                    new.failed, new.cases, new.greedy_ids
                );
                return once(list, place, what);
            }
        };
        let failed = format!("parity: failed cases: {} -> {}", old.failed, new.failed);
        match new.failed.cmp(&old.failed) {
            Ordering::Greater => once(&mut self.worse, place, failed),
            Ordering::Less => once(&mut self.better, place, failed),
            Ordering::Equal => {}
        }
        // What is no longer run cannot fail.
        let cases = format!("parity: cases: {} -> {}", old.cases, new.cases);
        match new.cases.cmp(&old.cases) {
            Ordering::Greater => once(&mut self.new, place, cases),
            Ordering::Less => once(&mut self.worse, place, cases),
            Ordering::Equal => {}
        }
        let ids = format!("parity: greedy ids: {} -> {}", old.greedy_ids, new.greedy_ids);
        match (old.greedy_ids, new.greedy_ids) {
            (before, after) if before == after => {}
            (GreedyIds::Equal, _) | (_, GreedyIds::Differ) => once(&mut self.worse, place, ids),
            (GreedyIds::Differ, GreedyIds::Equal) => once(&mut self.better, place, ids),
            _ => once(&mut self.notes, place, ids),
        }
        let [before, after] = [old, new].map(|accuracy| accuracy.worst_over_limit.unwrap_or(f64::INFINITY));
        let worst = format!("parity: worst error/limit: {} -> {}", shown(before), shown(after));
        if grew(before, after) {
            once(&mut self.worse, place, worst);
        } else if grew(after, before) {
            once(&mut self.better, place, worst);
        }
    }
}

/// Is the new row slower, and in what words; `None` when neither is.
fn speed(old: &Timed, new: &Timed) -> Option<(bool, Change)> {
    let ([least, greatest], [new_least, new_greatest]) = (old.figures.extremes(), new.figures.extremes());
    if least <= new_greatest && new_least <= greatest {
        return None;
    }
    let times = old.figures.times_as_fast_as(new.figures)?;
    let (slower, shown) = match times {
        times if times > SLOWER => (true, format!("{} times as slow", three_digits(times))),
        times if 1.0 / times > SLOWER => (false, format!("{} times as fast", three_digits(1.0 / times))),
        _ => return None,
    };
    let disturbed = match (old.figures.disturbed, new.figures.disturbed) {
        (0, 0) => "",
        (_, 0) => ", the old one disturbed",
        (0, _) => ", the new one disturbed",
        _ => ", both disturbed",
    };
    let (before, after) = (three_digits(old.figures.median()), new.median());
    Some((slower, new.change(format!("{before} -> {after}, {shown}{disturbed}"))))
}

/// What holds for a backend and dtype stands beside each of its rows, and is said once.
fn once(changes: &mut Vec<Change>, place: &str, what: String) {
    let change = Change { place: place.into(), what };
    if !changes.contains(&change) {
        changes.push(change);
    }
}
