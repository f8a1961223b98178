//! Starts the observing process, and survives its crash.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail};

use super::job::{Done, Job, Said};
use crate::child::{self, Speaker};

/// How an observing process ended.
pub enum Outcome {
    /// It wrote the activations.
    Done(Done),
    /// The backend or the dtype cannot be used here.
    Unavailable(String),
    /// It died.
    Crash(String),
}

/// Runs `job` in a process of `program`, telling `progress` what it does.
///
/// # Errors
/// When the process cannot be started, or finds the input bad.
pub fn run(program: &Path, job: &Job, progress: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let modes: Vec<_> = job.mode.iter().map(|mode| mode.name()).collect();
    let mut command = child::command(program);
    command
        .args(["observe", "--backend", job.backend.name()])
        .args(["--dtype", job.dtype.name()])
        .args(["--mode", &modes.join(",")])
        .args(["--first", &job.first.to_string()])
        .args(["--end", &job.end.to_string()])
        .arg("--model")
        .arg(&job.model)
        .arg("--reference")
        .arg(&job.reference)
        .arg("--out")
        .arg(&job.out)
        .stdin(Stdio::null());
    let mut process = Speaker::start(&mut command)?;
    loop {
        match process.next() {
            Ok(Said::Progress(what)) => progress(&what),
            Ok(Said::Unavailable(reason)) => return Ok(Outcome::Unavailable(reason)),
            Ok(Said::BadInput(message)) => bail!("{message}"),
            Ok(Said::Done(done)) => {
                return Ok(match process.finish() {
                    Ok(()) => Outcome::Done(done),
                    Err(crash) => Outcome::Crash(crash),
                });
            }
            Err(crash) => return Ok(Outcome::Crash(crash)),
        }
    }
}
