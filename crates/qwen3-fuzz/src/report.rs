//! What a campaign came to.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::judge::Outcome;
use crate::process::Run;

/// A campaign's results.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// The version of this form, 1.
    pub schema: u32,
    /// The campaign's seed.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// The limit of time for an input.
    pub limit_seconds: f64,
    /// The limit of resident memory for an input.
    pub limit_mb: u64,
    /// The corpus under `corpus`, and every format under its name.
    pub classes: BTreeMap<String, Tally>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// The inputs of one class.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Tally {
    /// All of them.
    pub tried: u64,
    /// Read and used.
    pub accepted: u64,
    /// Read, and told apart by a comparison.
    pub judged: u64,
    /// Refused, as they should be.
    pub refused: u64,
    /// Those with something wrong.
    pub findings: u64,
    /// Seconds that the slowest took.
    pub slowest_seconds: f64,
    /// Which that was.
    pub slowest: String,
    /// Megabytes that the largest took.
    pub largest_mb: u64,
    /// Which that was.
    pub largest: String,
}

/// An input with something wrong.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finding {
    /// Which: `FORMAT:INDEX`, or `corpus:NAME`.
    pub input: String,
    /// The program and its words, as run in the input's folder.
    pub command: String,
    /// What was done to which file.
    pub change: String,
    /// What is wrong.
    pub wrong: Vec<String>,
    /// The end of what it printed to standard error.
    pub stderr: String,
    /// Where its folder was kept.
    pub kept: Option<String>,
}

impl Report {
    /// Counts an input.
    pub fn count(&mut self, class: &str, name: &str, outcome: Option<Outcome>, run: &Run) {
        let tally = self.classes.entry(class.into()).or_default();
        tally.tried += 1;
        *match outcome {
            Some(Outcome::Accepted) => &mut tally.accepted,
            Some(Outcome::Judged) => &mut tally.judged,
            Some(Outcome::Refused) => &mut tally.refused,
            None => &mut tally.findings,
        } += 1;
        let (seconds, mb) = (run.elapsed.as_secs_f64(), run.peak >> 20);
        if seconds > tally.slowest_seconds {
            (tally.slowest_seconds, tally.slowest) = (seconds, name.into());
        }
        if mb > tally.largest_mb {
            (tally.largest_mb, tally.largest) = (mb, name.into());
        }
    }

    /// Nothing was wrong: 0. Something was: 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.findings.is_empty())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FINDING {}: {}", self.input, self.wrong.join("; "))?;
        writeln!(f, "  change:  {}", self.change.escape_debug())?;
        let command: String = self.command.chars().take(500).collect();
        writeln!(f, "  command: {}", command.escape_debug())?;
        if !self.stderr.is_empty() {
            writeln!(f, "  stderr:  {}", self.stderr.escape_debug())?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "  kept in: {kept}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:>6} {:>9} {:>7} {:>8} {:>9} {:>9} {:>9}",
            "format", "tried", "accepted", "judged", "refused", "findings", "slowest", "largest"
        )?;
        for (class, tally) in &self.classes {
            let Tally { tried, accepted, judged, refused, findings, slowest_seconds, largest_mb, .. } = tally;
            writeln!(
                f,
                "{class:<18} {tried:>6} {accepted:>9} {judged:>7} {refused:>8} {findings:>9} \
                 {slowest_seconds:>7.2} s {largest_mb:>6} MB"
            )?;
        }
        let tried: u64 = self.classes.values().map(|tally| tally.tried).sum();
        writeln!(
            f,
            "{tried} inputs of seed {} in {:.0} s, {} findings (limits: {} s, {} MB)",
            self.seed,
            self.seconds,
            self.findings.len(),
            self.limit_seconds,
            self.limit_mb
        )
    }
}
