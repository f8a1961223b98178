//! Building several of the project's programs at once, with the backends asked for and those built last.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use qwen3_command::child;

use crate::backend::{Backends, join};
use crate::runner::{Plan, executable};
use crate::test::Features;
use crate::workspace::Workspace;

/// Builds the programs of these names, with the backends asked for and those built last; their executables.
///
/// # Errors
/// When the build fails.
pub fn build<const N: usize>(
    workspace: &Workspace,
    asked: &Backends,
    libtorch: Option<&Path>,
    names: [&str; N],
) -> Result<[PathBuf; N]> {
    let plan = Plan::new(workspace, asked, libtorch);
    plan.announce();
    let built = built(workspace, &plan.backends, plan.libtorch.as_deref(), names)?;
    plan.remember()?;
    Ok(built)
}

/// The same with these backends alone, tch not among them: for another machine.
///
/// # Errors
/// When the build fails.
pub fn build_only<const N: usize>(
    workspace: &Workspace,
    backends: &Backends,
    names: [&str; N],
) -> Result<[PathBuf; N]> {
    eprintln!("xtask: building with {}; a first build with other backends takes minutes", join(backends));
    built(workspace, backends, None, names)
}

fn built<const N: usize>(
    workspace: &Workspace,
    backends: &Backends,
    libtorch: Option<&Path>,
    names: [&str; N],
) -> Result<[PathBuf; N]> {
    // All packages, so that the features are those of the tests and nothing is compiled twice.
    let mut cargo = workspace.cargo(libtorch);
    cargo.args(["build", "--release", "--workspace", "--message-format", "json-render-diagnostics"]);
    cargo.args(Features::of(backends).words());
    for name in names {
        cargo.args(["--bin", name]);
    }
    let output = child::output(cargo.stdin(Stdio::null()).stderr(Stdio::inherit()))
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the programs could not be built with {}", join(backends));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = Vec::new();
    for name in names {
        built.push(
            executable(&messages, name).with_context(|| format!("cargo named no executable for {name}"))?,
        );
    }
    Ok(built.try_into().expect("as many as there are names"))
}
