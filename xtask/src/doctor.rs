//! `cargo xtask doctor`: builds the doctor, which needs no backend, and starts it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use qwen3_command::{DoctorArgs, child};

use crate::runner::executable;
use crate::workspace::{Workspace, exit_code};
use crate::{launch, named};

/// Builds and runs; returns the doctor's exit code.
///
/// # Errors
/// When a path is missing, and no name on the hub, before the build, or the build fails.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let workspace = Workspace::find()?;
    let found =
        |path: &Path| if path.exists() { Ok(path.into()) } else { named::checkpoint(&workspace, path) };
    let args = DoctorArgs { model: found(&args.model)?, original: found(&args.original)?, ..args.clone() };
    launch::check_outputs([("--json", &args.json), ("--html", &args.html)])?;
    let mut cargo = workspace.cargo(None);
    cargo.args(["build", "--release", "--package", "qwen3-doctor", "--bin", "qwen3-doctor"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let built = child::output(cargo.stdin(Stdio::null())).context("cargo cannot be started")?;
    ensure!(built.status.success(), "the doctor could not be built");
    let program = executable(&String::from_utf8_lossy(&built.stdout), "qwen3-doctor");
    let program = program.context("cargo named no executable for qwen3-doctor")?;
    let status = child::status(Command::new(&program).args(args.words()));
    Ok(exit_code("the doctor", status.with_context(|| format!("{} cannot be started", program.display()))?))
}
