//! What differs between two runs of the same name.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use qwen3_blame::Divergence;
use qwen3_trace::TokenVerdict;

use super::judged::{Judged, Tensor, depth, shown};
use super::{Diff, numbered};
use crate::Status;

/// A tensor that stays on its side of the limit changes when its error over its limit grows or falls by more
/// than this factor ...
pub const FACTOR: f64 = 2.0;
/// ... and the larger of both is above this share of the limit: below it, noise is compared with noise.
pub const SHARE: f64 = 0.1;
/// A time is mentioned when it changes by more than this factor ...
const TIME_FACTOR: f64 = 2.0;
/// ... and one of both is at least as long, in milliseconds.
const TIME_FLOOR_MS: f64 = 100.0;

/// Wrong tokens of a run that are listed one by one.
const WRONG_TOKENS: usize = 4;

impl Diff {
    /// Adds what differs between an old run and the new one of its name.
    pub fn run(&mut self, old: &Judged, new: &Judged) {
        self.runs += 1;
        if old.status != new.status {
            let change = new.change(format!("status: {} -> {}", old.status, new.status));
            match (old.status, new.status) {
                (_, Status::Pass) | (Status::Crash, Status::Fail) => self.better.push(change),
                // No longer measured is worse than failed, and failed worse than not measured.
                _ => self.worse.push(change),
            }
        }
        self.divergence(old, new);
        // What a run did not come to is said by its status.
        if new.status.ran() || !new.tensors.is_empty() {
            // Few lines first: a list of many is cut.
            self.tokens(old, new);
            self.tensors(old, new);
        }
        if old.switches != new.switches {
            let what = format!("switches: {} -> {}", old.switches, new.switches);
            self.notes.push(new.change(what));
        }
        let (before, after) = (old.elapsed_ms, new.elapsed_ms);
        let longer = before.max(after);
        if longer >= TIME_FLOOR_MS && longer > TIME_FACTOR * before.min(after) {
            self.notes.push(new.change(format!("time: {before:.0} ms -> {after:.0} ms")));
        }
    }

    fn divergence(&mut self, old: &Judged, new: &Judged) {
        if old.first == new.first {
            return;
        }
        let name = |first: Option<&Divergence>| first.map_or("none".into(), |first| first.tensor.clone());
        let what = format!("first divergence: {} -> {}", name(old.first), name(new.first));
        let change = new.change(what);
        // The order of computation is the order in which a run lists its tensors.
        let listed = |run: &Judged, first: &Divergence| {
            run.tensors.iter().position(|tensor| tensor.tensor == first.tensor)
        };
        let order = |first| (depth(first), listed(new, first).or_else(|| listed(old, first)));
        match (old.first, new.first) {
            (Some(_), None) if new.status == Status::Pass => self.better.push(change),
            // A run that came to nothing has no divergence either.
            (Some(_), None) => self.notes.push(change),
            (None, _) => self.worse.push(change),
            (Some(before), Some(after)) => match order(after).cmp(&order(before)) {
                Ordering::Less => self.worse.push(change),
                Ordering::Greater => self.better.push(change),
                Ordering::Equal => self.notes.push(change),
            },
        }
    }

    fn tensors(&mut self, old: &Judged, new: &Judged) {
        let before = numbered(&old.tensors, |tensor| &tensor.name);
        let after = numbered(&new.tensors, |tensor| &tensor.name);
        // In the report's order, so that the first to change comes first.
        let (mut missing, mut pairs, mut seen) = (Vec::new(), Vec::new(), BTreeMap::<&str, usize>::new());
        for tensor in &old.tensors {
            let count = seen.entry(&tensor.name).or_default();
            *count += 1;
            match after.get(&(tensor.name.as_str(), *count)) {
                Some(other) => pairs.push((tensor, *other)),
                None => missing.push(tensor.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let what = format!("missing: {}", names(&missing, "tensor"));
            self.worse.push(new.change(what));
        }
        let added = after.keys().filter(|key| !before.contains_key(key));
        let added: Vec<&str> = added.map(|key| key.0).collect();
        if !added.is_empty() {
            self.new.push(new.change(names(&added, "tensor")));
        }
        self.tensors += pairs.len();
        for (before, after) in pairs {
            self.tensor(new, before, after);
        }
    }

    fn tensor(&mut self, run: &Judged, old: &Tensor, new: &Tensor) {
        let change = |verdict: &str| {
            let (before, after) = (shown(old.ratio), shown(new.ratio));
            run.change(format!("{}: {verdict}error/limit {before} -> {after}", new.name))
        };
        match (old.pass, new.pass) {
            (true, false) => self.worse.push(change("now beyond its limit, ")),
            (false, true) => self.better.push(change("now within its limit, ")),
            _ if grew(old.ratio, new.ratio) => self.worse.push(change("")),
            _ if grew(new.ratio, old.ratio) => self.better.push(change("")),
            _ => {}
        }
    }

    fn tokens(&mut self, old: &Judged, new: &Judged) {
        let common = old.tokens.keys().filter(|key| new.tokens.contains_key(key)).count();
        let right = |token: &TokenVerdict| i64::from(token.expected) == token.observed;
        if common < old.tokens.len() {
            let what = format!("missing: {}", plural(old.tokens.len() - common, "token"));
            self.worse.push(new.change(what));
        }
        if common < new.tokens.len() {
            let what = plural(new.tokens.len() - common, "token");
            self.new.push(new.change(what));
        }
        let mut wrong = Vec::new();
        for (key, before) in &old.tokens {
            let Some(after) = new.tokens.get(key) else {
                continue;
            };
            let place = format!("token of row {}, step {}", key.0, key.1);
            if before.expected != after.expected {
                let what = format!("{place}: expected {} -> {}", before.expected, after.expected);
                self.notes.push(new.change(what));
            }
            if before.observed == after.observed && right(before) == right(after) {
                continue;
            }
            let what = format!("{place}: {} -> {}", before.observed, after.observed);
            match (right(after), after.tie) {
                (true, _) => self.better.push(new.change(what + ", now as expected")),
                (false, true) => self.notes.push(new.change(what + ", a tie")),
                (false, false) => wrong.push(format!("{what}, expected {}", after.expected)),
            }
        }
        // After the first wrong token all others may differ.
        let more = wrong.len().saturating_sub(WRONG_TOKENS);
        wrong.truncate(WRONG_TOKENS);
        if more > 0 {
            wrong.push(format!("{} wrong besides", plural(more, "token")));
        }
        self.worse.extend(wrong.into_iter().map(|what| new.change(what)));
    }
}

/// Does an error over its limit count as grown?
pub fn grew(from: f64, to: f64) -> bool {
    to > SHARE && to > FACTOR * from
}

/// `2 tensors: a, b`; the first few of many.
pub fn names(names: &[&str], noun: &str) -> String {
    const SHOWN: usize = 4;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let first = names[..names.len().min(SHOWN)].join(", ");
    format!("{}: {first}{more}", plural(names.len(), noun))
}

fn plural(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
