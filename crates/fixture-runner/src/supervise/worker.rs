use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Stdio};

use anyhow::{Result, bail};
use qwen3_report::CaseResult;
use qwen3_trace::{Backend, Kernels, Precision};

use crate::child::{self, Speaker};
use crate::manifest::Case;
use crate::protocol::{Job, Observe, Observed, Reply};

/// A running worker process.
pub struct Worker {
    process: Speaker<Reply>,
    stdin: ChildStdin,
}

impl Worker {
    /// Starts a worker; gives it with the dtypes it computes in, or the reason it is of no use.
    ///
    /// # Errors
    /// When the process cannot be started.
    #[allow(clippy::type_complexity, reason = "named where it is taken apart")]
    pub fn start(
        program: &Path,
        backend: Backend,
        kernels: Kernels,
        manifest: Option<&Path>,
    ) -> Result<(Self, Result<Vec<Precision>, String>)> {
        let mut command = child::command(program);
        command.args(["worker", "--backend", backend.name(), "--kernels", kernels.name()]);
        if let Some(manifest) = manifest {
            command.arg("--manifest").arg(manifest);
        }
        let mut process = Speaker::start(command.stdin(Stdio::piped()))?;
        let stdin = process.stdin().expect("piped");
        let ready = match process.next() {
            Ok(Reply::Ready(dtypes)) => Ok(dtypes),
            Ok(Reply::Unavailable(reason)) => Err(reason),
            Ok(other) => bail!("a worker began with {other:?}"),
            Err(crash) => Err(format!("the backend dies when it is started: {crash}")),
        };
        Ok((Self { process, stdin }, ready))
    }

    /// Runs a case: its result, or how the process died.
    ///
    /// # Errors
    /// When a fixture is bad.
    pub fn case(&mut self, case: &Case, dtype: Precision) -> Result<Result<CaseResult, String>> {
        let case = case.id.clone();
        match self.run(&Job::Case { case, dtype }, &mut |_| {})? {
            Ok(Reply::Case(result)) => Ok(Ok(*result)),
            Ok(other) => bail!("a worker answered a case with {other:?}"),
            Err(crash) => Ok(Err(crash)),
        }
    }

    /// Runs an observation, to the process's end: how it went, or how the process died.
    ///
    /// # Errors
    /// When the checkpoint or the reference is bad.
    pub fn observe(
        mut self,
        job: Observe,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Result<Observed, String>> {
        match self.run(&Job::Observe(job), progress)? {
            Ok(Reply::Observed(observed)) => {
                drop(self.stdin);
                Ok(self.process.finish().map(|()| observed))
            }
            Ok(other) => bail!("a worker answered an observation with {other:?}"),
            Err(crash) => Ok(Err(crash)),
        }
    }

    fn run(&mut self, job: &Job, progress: &mut dyn FnMut(&str)) -> Result<Result<Reply, String>> {
        let line = serde_json::to_string(job)?;
        if writeln!(self.stdin, "{line}").is_err() {
            return Ok(Err(self.process.obituary()));
        }
        loop {
            match self.process.next() {
                Ok(Reply::Progress(what)) => progress(&what),
                Ok(Reply::BadInput(message)) => bail!("{message}"),
                reply => return Ok(reply),
            }
        }
    }
}
