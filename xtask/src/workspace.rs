//! The repository, its target directory, and starting cargo and other programs in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use qwen3_command::child;

/// Where this repository is and where its builds go.
pub struct Workspace {
    /// The repository's root.
    pub root: PathBuf,
    /// The target directory, absolute, whichever way it was configured.
    pub target: PathBuf,
}

/// The repository's root: the parent of this crate's folder.
///
/// Which folder that is, cargo says when it starts this program. What it said when compiling may be another
/// clone's, gone since, when clones share a target directory: the older clone's program counts as fresh.
pub fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().expect("xtask lies in the repository").to_path_buf()
}

impl Workspace {
    /// Asks cargo for the target directory (`CARGO_TARGET_DIR`, `build.target-dir` or the default).
    pub fn find() -> Result<Self> {
        let root = root();
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(root.join("Cargo.toml"))
            .stderr(Stdio::inherit())
            .output()
            .context("cargo cannot be started")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed in {}", root.display());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let target =
            metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
        Ok(Self { target: target.into(), root })
    }

    /// cargo, to be run at the root with this target directory and, where there is one, this libtorch.
    ///
    /// `libtorch` must be free of symbolic links: clones that share a target directory then agree on it,
    /// and nothing is compiled again.
    pub fn cargo(&self, libtorch: Option<&Path>) -> Command {
        let mut command = self.command(cargo());
        if let Some(libtorch) = libtorch {
            command.env("LIBTORCH", libtorch);
        }
        command
    }

    /// A command that starts cargo, to be run at the root with this target directory.
    pub fn command(&self, mut command: Command) -> Command {
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What cargo told this program of its own package. Build scripts that ask for such a variable
        // (ring's does) would run again, and everything above them, whenever cargo is started by hand.
        let own = |name: &OsString| {
            let name = name.to_string_lossy();
            OWN.iter().any(|start| name.starts_with(start))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
            command.env_remove(name);
        }
        command
    }
}

/// Copies a file, or a folder with all that is in it, into folders that are made where they are missing.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("{}", from.display()))?;
    Ok(())
}

/// How the variables begin that cargo sets for the program it runs.
const OWN: [&str; 4] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that runs this program, else the one on the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program of the set-up; what it prints goes to stderr, for stdout is the runner's.
///
/// Errors when it cannot be started or fails.
pub fn run_for_set_up(command: &mut Command) -> Result<()> {
    let status = child::status(command.stdin(Stdio::null()).stdout(std::io::stderr()));
    let status = status.with_context(|| format!("{} cannot be started", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// The exit code to pass on; a program ended by a signal has none, which is said and counts as 1.
pub fn exit_code(program: &str, status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(1),
        None => {
            eprintln!("xtask: {program} was ended: {status}");
            1
        }
    }
}

/// The first folder of `PATH` with a file of this name.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// An environment variable that is set to something.
pub fn env_path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args().take(3));
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    format!("`{} ...`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests run with the variables of their own package, as the program does under `cargo run`.
    #[test]
    fn cargo_is_started_as_by_hand() {
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let workspace = Workspace { root: "root".into(), target: "target".into() };
        let cargo = workspace.cargo(None);
        let removed = cargo.get_envs().filter(|(_, value)| value.is_none());
        let removed: Vec<_> = removed.map(|(name, _)| name.to_os_string()).collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(removed.contains(&name.into()), "{name}");
        }
        assert!(!removed.contains(&"CARGO_TARGET_DIR".into()));
    }
}
