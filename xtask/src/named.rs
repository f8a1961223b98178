//! Checkpoints by where they are, or by their name on the hub.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use qwen3_checkpoint::is_gguf;
use qwen3_command::child;
use qwen3_hub::HubModel;

use crate::runner::executable;
use crate::workspace::Workspace;

/// The folder of the checkpoint `model`, or the GGUF file: the one of that name, or that of the model which is called so on the hub,
/// downloaded once. The program that asks the hub is built when there is a name, and not before.
///
/// # Errors
/// When there is no checkpoint, or it cannot be had.
pub fn checkpoint(workspace: &Workspace, model: &Path) -> Result<PathBuf> {
    let name = model.to_str().filter(|name| !model.exists() && HubModel::parse(name).is_some());
    let folder = match name {
        Some(name) => downloaded(workspace, name)?,
        None => model.into(),
    };
    let missing = "no checkpoint is there (no config.json)";
    ensure!(folder.join("config.json").is_file() || is_gguf(&folder), "{}: {missing}", folder.display());
    Ok(folder)
}

fn downloaded(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(None);
    cargo.args(["build", "--release", "--package", "qwen3-hub", "--bin", "qwen3-hub"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let built = child::output(cargo.stdin(Stdio::null()).stderr(Stdio::inherit()));
    let built = built.context("cargo cannot be started")?;
    ensure!(built.status.success(), "the hub's client could not be built");
    let program = executable(&String::from_utf8_lossy(&built.stdout), "qwen3-hub");
    let program = program.context("cargo named no executable for qwen3-hub")?;
    let mut command = Command::new(program);
    let output = child::output(command.arg(name).stdin(Stdio::null()).stderr(Stdio::inherit()));
    let output = output.context("the hub's client cannot be started")?;
    let folder = String::from_utf8(output.stdout).context("the hub's client printed no path")?;
    match folder.trim_end() {
        folder if output.status.success() && !folder.is_empty() => Ok(folder.into()),
        _ => bail!("{name}: neither a folder nor a model that can be had from the hub"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_itself_and_a_path_no_name() {
        let workspace = Workspace::find().unwrap();
        let tiny = workspace.root.join("fixtures/checkpoints/gqa-tied");
        assert_eq!(checkpoint(&workspace, &tiny).unwrap(), tiny);
        for path in ["/nonexistent/model", "./owner/model", "nowhere"] {
            let error = checkpoint(&workspace, Path::new(path)).unwrap_err().to_string();
            assert_eq!(error, format!("{path}: no checkpoint is there (no config.json)"));
        }
    }
}
