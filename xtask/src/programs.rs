//! Building several of the project's programs at once, with the backends asked for and those built last.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use qwen3_command::child;

use crate::backend::Backends;
use crate::runner::{Plan, executable};
use crate::test::Features;
use crate::workspace::Workspace;

/// Builds the programs of these names; their executables.
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
    // All packages, so that the features are those of the tests and nothing is compiled twice.
    let mut cargo = workspace.cargo(plan.libtorch.as_deref());
    cargo.args(["build", "--release", "--workspace", "--message-format", "json-render-diagnostics"]);
    cargo.args(Features::of(&plan.backends).words());
    for name in names {
        cargo.args(["--bin", name]);
    }
    let output = child::output(cargo.stdin(Stdio::null()).stderr(Stdio::inherit()))
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the programs could not be built");
    }
    plan.remember()?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = Vec::new();
    for name in names {
        built.push(
            executable(&messages, name).with_context(|| format!("cargo named no executable for {name}"))?,
        );
    }
    Ok(built.try_into().expect("as many as there are names"))
}
