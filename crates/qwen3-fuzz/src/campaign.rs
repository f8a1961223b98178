//! Inputs one after the other, until the time is over.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::corpus::{self, Case};
use crate::format::{Format, plans};
use crate::input::{self, Input};
use crate::judge::{Expectation, Outcome, judge};
use crate::process::{Limits, Run, run};
use crate::program::Programs;
use crate::report::{Finding, Report};
use crate::scratch::Scratch;
use crate::seeds::Seeds;

/// A campaign's settings.
pub struct Campaign<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// Good files.
    pub seeds: &'a Seeds,
    /// Of the random numbers.
    pub seed: u64,
    /// Limits of one input.
    pub limits: Limits,
    /// How many inputs run at once.
    pub at_once: usize,
    /// Where the folders of findings go.
    pub keep: Option<PathBuf>,
    /// What is printed of a finding at once.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

/// An input by its name: a format and an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only {
    /// The format.
    pub format: Format,
    /// The number of the input.
    pub index: u64,
}

impl std::str::FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, index) = text.split_once(':').ok_or("expected FORMAT:INDEX")?;
        let format = Format::named(format).ok_or_else(|| format!("{format:?} is no format"))?;
        let index = index.parse().map_err(|_| format!("{index:?} is no index"))?;
        Ok(Self { format, index })
    }
}

impl Campaign<'_> {
    /// Every command on good files, which must work: else nothing that follows would mean anything.
    ///
    /// # Errors
    /// When one fails.
    pub fn check_tame(&self, formats: &[Format]) -> Result<()> {
        let plans: Vec<_> = formats.iter().flat_map(|format| plans(*format)).collect();
        self.each(plans.len() as u64, None, |index| {
            let plan = &plans[index as usize];
            let Some(program) = self.programs.path(plan.program) else { return Ok(()) };
            let scratch = Scratch::new()?;
            let input = input::tame(plan, self.seeds, &scratch)?;
            let run = run(program, &input.words(), scratch.path(), self.limits)?;
            match judged(&input, &run, &scratch) {
                Ok(Outcome::Accepted) => Ok(()),
                other => bail!("{:?} on good files: {other:?} {:?} {}", plan.args, run.end, run.stderr),
            }
        })
    }

    /// Tries the corpus.
    ///
    /// # Errors
    /// When a case is not sound or a program cannot be started.
    pub fn corpus(&self, cases: &[Case], folder: &Path, report: &Mutex<Report>) -> Result<()> {
        self.each(cases.len() as u64, None, |index| {
            let case = &cases[index as usize];
            let Some(program) = self.programs.path(case.program) else { return Ok(()) };
            let scratch = Scratch::new()?;
            let input = case.input(folder, self.seeds, &scratch).context(case.name.clone())?;
            let run = run(program, &input.words(), scratch.path(), self.limits)?;
            let result =
                judged(&input, &run, &scratch).and_then(|outcome| case.check(&run).map(|()| outcome));
            self.record("corpus", &case.name, &input, &run, result, scratch, report)
        })
    }

    /// Tries inputs of these formats in turn until `end`, or `count` of them.
    ///
    /// # Errors
    /// When an input cannot be made or a program cannot be started.
    pub fn inputs(&self, formats: &[Format], count: u64, end: Instant, report: &Mutex<Report>) -> Result<()> {
        let number = formats.len() as u64;
        self.each(count, Some(end), |index| {
            let only = Only { format: formats[(index % number) as usize], index: index / number };
            self.one(only, report)
        })
    }

    /// Tries one input.
    ///
    /// # Errors
    /// As [`inputs`](Self::inputs).
    pub fn one(&self, Only { format, index }: Only, report: &Mutex<Report>) -> Result<()> {
        let scratch = Scratch::new()?;
        let input = input::make(format, self.seed, index, self.seeds, &scratch)
            .with_context(|| format!("{format}:{index}"))?;
        let Some(program) = self.programs.path(input.program) else { return Ok(()) };
        let run = run(program, &input.words(), scratch.path(), self.limits)
            .with_context(|| format!("{format}:{index}"))?;
        let result = judged(&input, &run, &scratch);
        self.record(format.name(), &index.to_string(), &input, &run, result, scratch, report)
    }

    #[allow(clippy::too_many_arguments, reason = "what there is to say of an input")]
    fn record(
        &self,
        class: &str,
        name: &str,
        input: &Input,
        run: &Run,
        result: Result<Outcome, Vec<String>>,
        scratch: Scratch,
        report: &Mutex<Report>,
    ) -> Result<()> {
        let outcome = result.as_ref().ok().copied();
        let finding = match result {
            Ok(_) => None,
            Err(wrong) => {
                let kept = match &self.keep {
                    Some(folder) => Some(keep(scratch, &folder.join(format!("{class}-{name}")))?),
                    None => None,
                };
                let words =
                    std::iter::once(input.program.name()).chain(input.args.iter().map(String::as_str));
                Some(Finding {
                    input: format!("{class}:{name}"),
                    command: words.collect::<Vec<_>>().join(" "),
                    change: input.what.clone(),
                    wrong,
                    stderr: last(&run.stderr),
                    kept,
                })
            }
        };
        let mut report = report.lock().expect("no panic while held");
        report.count(class, name, outcome, run);
        if let Some(finding) = finding {
            (self.tell)(&finding.to_string());
            report.findings.push(finding);
        }
        Ok(())
    }

    /// Runs `work` for every number below `count`, some at once, until `end`; stops at the first error.
    fn each(&self, count: u64, end: Option<Instant>, work: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
        let next = AtomicU64::new(0);
        let worker = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || end.is_some_and(|end| Instant::now() >= end) {
                    return Ok(());
                }
                work(index).inspect_err(|_| next.store(count, Ordering::Relaxed))?;
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.at_once.max(1)).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in a worker"))
        })
    }
}

/// Tries the corpus of the repository at `root` with those programs that are given: what tests do.
///
/// # Errors
/// As [`Campaign::corpus`].
pub fn replay(root: &Path, programs: &Programs) -> Result<Report> {
    let seeds = Seeds::new(root, programs)?;
    let tell = |_: &str| {};
    let campaign =
        Campaign { programs, seeds: &seeds, seed: 0, limits: LIMITS, at_once: 2, keep: None, tell: &tell };
    let folder = root.join("fixtures/hostile");
    let report = Mutex::default();
    campaign.corpus(&corpus::read(&folder)?, &folder, &report)?;
    Ok(report.into_inner().expect("no panic while held"))
}

fn judged(input: &Input, run: &Run, scratch: &Scratch) -> Result<Outcome, Vec<String>> {
    let expected = Expectation {
        program: input.program,
        args: &input.args,
        usage: input.usage,
        refuse: input.refuse,
        before: &input.before,
    };
    judge(run, &expected, scratch)
}

fn keep(scratch: Scratch, place: &Path) -> Result<String> {
    let shown = place.display().to_string();
    if place.exists() {
        std::fs::remove_dir_all(place).with_context(|| shown.clone())?;
    }
    scratch.keep(place).with_context(|| shown.clone())?;
    Ok(shown)
}

fn last(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(600);
    text.trim_end().chars().skip(skip).collect()
}

/// The limits of an input where none are given.
pub const LIMITS: Limits = Limits { time: Duration::from_secs(10), memory: 500 << 20 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_named_by_format_and_index() {
        assert_eq!("npz:17".parse(), Ok(Only { format: Format::Npz, index: 17 }));
        for wrong in ["npz", "npz:", "nope:1", "npz:-1"] {
            assert!(wrong.parse::<Only>().is_err(), "{wrong}");
        }
    }
}
