//! Rounds: every subject once, in another order each time, on a machine that is otherwise idle.

use std::collections::BTreeSet;
use std::time::Duration;

use qwen3_bench::{Process, Who, idle, limits, measured};
use qwen3_command::{BenchArgs, printable};
use qwen3_config::Precision;
use qwen3_report::bench::Limits;
use qwen3_trace::{Backend, Kernels};

use crate::subject::Subject;

/// What all rounds came to.
pub struct Rounds {
    /// What was measured, in order.
    pub processes: Vec<Process>,
    /// Who was not, and why.
    pub absent: Vec<(String, String)>,
    /// The best of what the machine did in any round.
    pub limits: Limits,
    /// Did a run fail that should not have?
    pub failed: bool,
}

impl Rounds {
    /// Takes as many as the sizes say.
    pub fn taken(mut subjects: Vec<Subject>, args: &BenchArgs) -> Self {
        let threads = args.sizes.threads();
        let mut rounds =
            Self { processes: Vec::new(), absent: Vec::new(), limits: Limits::default(), failed: false };
        for run in 0..args.sizes.runs {
            rounds.wait(args);
            let found = limits::limits(threads, &args.dtype);
            rounds.limits = if run == 0 { found } else { limits::better(rounds.limits, found) };
            // Who did not come to anything is not tried again.
            subjects.retain(|subject| rounds.take(subject, run, args));
            // None is always the one that runs after a certain other.
            if !subjects.is_empty() {
                subjects.rotate_left(1);
            }
        }
        // The first round's order is that of the report.
        rounds
    }

    /// Who was measured.
    pub fn measured(&self) -> BTreeSet<(Backend, Kernels, Precision)> {
        let ours = |process: &Process| match process.who {
            Who::Ours(backend, kernels) => Some((backend, kernels, process.dtype)),
            Who::Peer(_) => None,
        };
        self.processes.iter().filter_map(ours).collect()
    }

    fn wait(&self, args: &BenchArgs) -> bool {
        let most = Duration::from_secs(args.wait.into());
        let idle = idle::wait(most, |used| {
            let waiting = if args.wait > 0 { ", waiting" } else { "" };
            eprintln!("bench: other processes use {used:.1} processors{waiting}");
        });
        if !idle && args.wait > 0 {
            eprintln!("bench: the machine is not idle after {} s; what is measured now is marked", args.wait);
        }
        idle
    }

    /// Measures one subject; says whether there is a next time.
    fn take(&mut self, subject: &Subject, run: usize, args: &BenchArgs) -> bool {
        let Subject { who, dtype, .. } = subject;
        let place = format!("bench: round {} of {}: {subject}", run + 1, args.sizes.runs);
        let command = match subject.command() {
            Ok(command) => command,
            Err(reason) => {
                eprintln!("{place}: skipped: {}", printable(&reason));
                self.absent.push((subject.to_string(), reason));
                return false;
            }
        };
        self.wait(args);
        let most = Duration::from_secs(args.give_up.into());
        match measured(command, &args.sizes.of_run(run), most) {
            Ok(said) => {
                let disturbed = if said.disturbed { ", disturbed" } else { "" };
                eprintln!("{place}: {:.1} s{disturbed}", said.elapsed.as_secs_f64());
                self.processes.push(Process {
                    who: who.clone(),
                    dtype: *dtype,
                    measurements: said.measurements,
                    disturbed: said.disturbed,
                });
                true
            }
            Err(failure) => {
                let word = if failure.is_absence() { "skipped" } else { "FAILED" };
                eprintln!("{place}: {word}: {}", printable(&failure.to_string()));
                self.failed |= !failure.is_absence();
                self.absent.push((subject.to_string(), failure.to_string()));
                false
            }
        }
    }
}
