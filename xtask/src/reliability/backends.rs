//! Runs of our own backends on the same checkpoints, in all modes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwen3_report::{Status, VerifyReport};
use qwen3_trace::{Backend, Precision};

use super::survey::{Honest, Survey, failing, kind, name, worst};
use crate::backend::{Backends, switches};
use crate::launch::SetUp;
use crate::runner;
use crate::workspace::Workspace;
use qwen3_command::child;

/// Builds the runner with all four backends.
///
/// # Errors
/// When the build fails.
pub fn build() -> Result<PathBuf> {
    let workspace = Workspace::find()?;
    let all = Backends::from(Backend::ALL);
    let set_up = SetUp::of(&workspace.root, &all, false);
    runner::build(&workspace, &all, &switches(&[], &[]), set_up.libtorch.as_deref())
}

/// Runs every backend in every dtype that it has, in all modes, and adds what was judged.
///
/// # Errors
/// When the runner fails, or its report cannot be read.
pub fn runs(runner: &Path, folder: &Path, temporary: &Path, survey: &mut Survey) -> Result<()> {
    let json = temporary.join("verify.json");
    for dtype in Precision::ALL {
        // float16 overflows where the oracle's honest runs do.
        if !folder.join(format!("honest-{dtype}-eager.npz")).is_file() {
            continue;
        }
        let mut verify = Command::new(runner);
        verify
            .args(["verify", "--backend", "all", "--diagnose-for", "5", "--dtype", dtype.name(), "--model"])
            .arg(folder)
            .arg("--reference")
            .arg(folder.join("reference.npz"))
            .arg("--json")
            .arg(&json)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = child::status(&mut verify).context("the fixture runner cannot be started")?;
        ensure!(status.code() != Some(2), "{}: verify in {dtype} refused it", folder.display());
        let text = fs::read_to_string(&json).with_context(|| format!("{}", json.display()))?;
        let report: VerifyReport = serde_json::from_str(&text)?;
        let ran = report.runs.into_iter().filter(|run| run.status != Status::Unavailable);
        survey.honest.extend(ran.map(|run| Honest {
            kind: kind(folder),
            engine: run.label.backend,
            dtype,
            stored: true,
            accused: match run.status {
                Status::Pass => None,
                Status::Fail => Some(failing(folder, &run.verdicts)),
                other => Some(format!("{}: {other}: {}", name(folder), run.reason.unwrap_or_default())),
            },
            ratio: worst(&run.verdicts),
            causes: run.diagnosis.causes.into_iter().map(|cause| cause.id).collect(),
        }));
    }
    Ok(())
}
