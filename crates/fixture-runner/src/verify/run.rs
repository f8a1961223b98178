//! Starts the observing process, and survives its crash.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::observe::{Done, Job, Said};
use crate::child::{self, LastLines, describe};
use crate::protocol::REPLY_PREFIX;

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
    let mut child = command.spawn().context("starting a process")?;
    let stdout = child.stdout.take().expect("piped");
    let mut stderr = LastLines::of(child.stderr.take().expect("piped"));
    let mut last = None;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let said = line.strip_prefix(REPLY_PREFIX);
        match said.and_then(|said| serde_json::from_str(said).ok()) {
            Some(Said::Progress(what)) => progress(&what),
            Some(said) => last = Some(said),
            None => {}
        }
    }
    let status = child.wait().context("waiting for a process")?;
    stderr.wait();
    match (last, status.success()) {
        (Some(Said::Done(done)), true) => Ok(Outcome::Done(done)),
        (Some(Said::Unavailable(reason)), _) => Ok(Outcome::Unavailable(reason)),
        (Some(Said::BadInput(message)), _) => bail!("{message}"),
        _ => Ok(Outcome::Crash(stderr.obituary(describe(status)))),
    }
}
