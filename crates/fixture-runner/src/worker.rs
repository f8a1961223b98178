//! The process that computes: one backend, one job at a time, told over standard input.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};

use crate::backend::{Backend, burn_dtype};
use crate::check::{check_case, check_equal};
use crate::data::TensorFile;
use crate::failure;
use crate::manifest::{Kind, Manifest};
use crate::protocol::{CaseResult, Job, REPLY_PREFIX, Reply, Status};
use crate::subject::Bench;

/// Serves jobs on `backend` until standard input ends.
///
/// # Errors
/// When the manifest cannot be read or the supervisor is gone. A panic or abort of the backend ends the
/// process, and the supervisor reports the crash.
pub fn serve(backend: Backend, manifest: &Path) -> Result<()> {
    let device = match backend.device() {
        Ok(device) => device,
        Err(reason) => return say(&Reply::Unavailable { reason }),
    };
    if let Err(reason) = probe(&device) {
        return say(&Reply::Unavailable { reason });
    }
    say(&Reply::Ready {
        device: format!("{device:?}"),
        dtypes: Backend::dtypes(&device),
        switches: backend.switches(),
    })?;
    let manifest = Manifest::read(manifest)?;
    for line in stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        say(&match run(backend, &device, &manifest, &job) {
            Ok(result) => Reply::Done(Box::new(result)),
            Err(error) => Reply::BadFixture {
                message: format!("case {}: {}", job.case, failure::line(&error)),
            },
        })?;
    }
    Ok(())
}

/// Computes something small. A backend without a driver panics at its first tensor.
pub(crate) fn probe(device: &Device) -> Result<(), String> {
    let device = device.clone();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let sum = std::panic::catch_unwind(move || {
        Tensor::<1>::ones([3], &device).sum().into_scalar::<f32>()
    });
    std::panic::set_hook(hook);
    match sum {
        Ok(3.0) => Ok(()),
        Ok(other) => Err(format!("1 + 1 + 1 gives {other} on this device")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_else(|| "the device cannot be opened".into())),
    }
}

fn run(backend: Backend, device: &Device, manifest: &Manifest, job: &Job) -> Result<CaseResult> {
    let case = manifest
        .cases
        .iter()
        .find(|case| case.id == job.case)
        .context("not in the manifest")?;
    let checkpoint = match &case.checkpoint {
        Some(name) => Some(manifest.path(&manifest.checkpoints[name].path)?),
        None => None,
    };
    let bench = Bench {
        device,
        dtype: burn_dtype(job.dtype),
        checkpoint: checkpoint.as_deref(),
    };
    let open = |list: &Option<crate::manifest::TensorList>| {
        let list = list.as_ref();
        list.map(|list| anyhow::Ok(TensorFile::open(&manifest.path(&list.file)?)?))
            .transpose()
    };
    let inputs = open(&case.inputs)?;

    let start = Instant::now();
    let outputs = bench.run(case, inputs.as_ref())?;
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;

    let tensors = match case.kind {
        Kind::RecordRoundtrip => check_equal(&outputs, &bench.checkpoint_parameters()?)?,
        _ => {
            let expected = open(&case.expected)?.context("the case expects nothing")?;
            check_case(case, &outputs, &expected, job.dtype)?
        }
    };
    let passed = tensors.iter().all(|tensor| tensor.pass);
    Ok(CaseResult {
        case: case.id.clone(),
        kind: case.kind,
        backend,
        dtype: job.dtype,
        status: if passed { Status::Pass } else { Status::Fail },
        elapsed_ms,
        tensors,
        reason: None,
        switches: backend.switches(),
    })
}

fn say(reply: &Reply) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{REPLY_PREFIX}{}", serde_json::to_string(reply)?)?;
    Ok(stdout.flush()?)
}
