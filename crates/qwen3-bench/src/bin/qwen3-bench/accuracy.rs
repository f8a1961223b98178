//! What parity says of the backends that were measured.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwen3_command::{Temporary, child};
use qwen3_config::Precision;
use qwen3_report::bench::Accuracy;
use qwen3_report::{AnyReport, Label, ParityReport};
use qwen3_trace::{Backend, Kernels};

use crate::Programs;

/// Whole models, from token ids to generated ids.
const CASES: &str = "full_model";

/// Parity's report.
pub struct Accuracies(ParityReport);

impl Accuracies {
    /// Runs the whole models of the catalogue on the backends and in the dtypes of `measured`.
    ///
    /// # Errors
    /// When the runner cannot be started, or refuses the catalogue.
    pub fn told(programs: &Programs, measured: &BTreeSet<(Backend, Kernels, Precision)>) -> Result<Self> {
        if measured.is_empty() {
            return Ok(Self(ParityReport::default()));
        }
        eprintln!("bench: parity of what was measured");
        let folder = Temporary::new().context("no folder for temporary files")?;
        let json = folder.path().join("parity.json");
        let list = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(",");
        let backends = list(measured.iter().map(|(backend, _, _)| backend.name()).collect());
        let kernels = list(measured.iter().map(|(_, kernels, _)| kernels.name()).collect());
        let dtypes = list(measured.iter().map(|(_, _, dtype)| dtype.name()).collect());
        let mut runner = Command::new(&programs.fixture_runner);
        runner.args(["parity", "--filter", CASES, "--backend", &backends, "--kernels", &kernels]);
        runner.args(["--dtype", &dtypes]);
        runner.arg("--manifest").arg(&programs.manifest).arg("--json").arg(&json);
        let status = child::status(runner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
            .with_context(|| format!("{} cannot be started", programs.fixture_runner.display()))?;
        // Failures are what is asked for.
        let ran = matches!(status.code(), Some(0 | 1 | 3)) && fs::exists(&json)?;
        ensure!(ran, "parity of {} ended with {status}", programs.manifest.display());
        match AnyReport::read(&json)? {
            AnyReport::Parity(report) => Ok(Self(report)),
            other => anyhow::bail!("parity wrote a report of {}", other.kind()),
        }
    }

    /// Of runs called `label`.
    pub fn of(&self, label: &Label) -> Option<Accuracy> {
        Accuracy::of(&self.0, label)
    }
}
