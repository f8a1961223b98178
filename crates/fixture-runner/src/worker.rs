//! The process that computes: one backend, one job at a time, told over standard input.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use qwen3_model::{Kernel, burn_dtype};
use qwen3_report::{CaseResult, Status};
use qwen3_trace::{Backend, Kernels, Precision, TensorFile};

use crate::backend::{dtypes, open, switches};
use crate::check::{check_case, check_equal};
use crate::manifest::{Case, Manifest, Subject, TensorList};
use crate::observe::observe;
use crate::protocol::{Job, Observed, REPLY_PREFIX, Reply};
use crate::subject::Bench;

/// Serves jobs on `backend`, with this project's kernels or without, until standard input ends; cases are those of `manifest`.
///
/// # Errors
/// When the manifest cannot be read or the supervisor is gone. A panic or abort of the backend ends the
/// process, and the supervisor reports the crash.
pub fn serve(backend: Backend, kernels: Kernels, manifest: Option<&Path>) -> Result<()> {
    let device = match open(backend) {
        Ok(device) => device,
        Err(reason) => return say(&Reply::Unavailable(reason)),
    };
    let kernel = Kernel::from(kernels);
    say(&Reply::Ready(dtypes(&device)))?;
    let manifest = manifest.map(Manifest::read).transpose()?;
    for line in stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let reply = match &job {
            Job::Case { case, dtype } => manifest
                .as_ref()
                .context("no manifest")
                .and_then(|manifest| {
                    let bench = Bench { device: &device, dtype: burn_dtype(*dtype), kernel, manifest };
                    run(backend, &bench, case, *dtype)
                })
                .map(|result| Reply::Case(Box::new(result)))
                .with_context(|| format!("case {case}")),
            Job::Observe(job) => observe(&device, kernel, job, &mut |what| say(&Reply::Progress(what)))
                .map(|done| Reply::Observed(Observed { switches: switches(backend), ..done })),
        };
        say(&reply.unwrap_or_else(|error| Reply::BadInput(qwen3_command::line(&error))))?;
    }
    Ok(())
}

fn run(backend: Backend, bench: &Bench, id: &str, dtype: Precision) -> Result<CaseResult> {
    let case = bench.manifest.cases.iter().find(|case| case.id == id);
    let case = case.context("not in the manifest")?;
    let (tensors, elapsed_ms) = judged(case, bench, dtype)?;
    Ok(CaseResult {
        case: case.id.clone(),
        kind: case.kind(),
        backend,
        dtype,
        variant: None,
        status: Status::of(tensors.iter().all(|tensor| tensor.pass)),
        elapsed_ms,
        tensors,
        reason: None,
        switches: switches(backend),
    })
}

/// Every tensor of a case with its verdict, and how long computing them took, in milliseconds.
fn judged(case: &Case, bench: &Bench, dtype: Precision) -> Result<(Vec<qwen3_trace::Verdict>, f64)> {
    let start = Instant::now();
    let elapsed_ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let data = match (&case.subject, case.data()) {
        (_, Some(data)) => data,
        (Subject::RecordRoundtrip(checkpoint), None) => {
            let outputs = bench.record_roundtrip(checkpoint)?;
            let elapsed_ms = elapsed_ms(start);
            let expected = bench.checkpoint_parameters(checkpoint)?;
            return Ok((check_equal(&outputs, &expected)?, elapsed_ms));
        }
        _ => unreachable!("only a record round trip has no data"),
    };
    let open = |list: &TensorList| -> Result<TensorFile> {
        Ok(TensorFile::open(&bench.manifest.path(&list.file)?)?)
    };
    let inputs = open(&data.inputs)?;
    let start = Instant::now();
    let outputs = bench.run(&case.subject, &inputs)?;
    let elapsed_ms = elapsed_ms(start);
    Ok((check_case(case, data, &outputs, &open(&data.expected)?, dtype)?, elapsed_ms))
}

fn say(reply: &Reply) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{REPLY_PREFIX}{}", serde_json::to_string(reply)?)?;
    Ok(stdout.flush()?)
}
