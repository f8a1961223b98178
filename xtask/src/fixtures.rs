//! `cargo xtask fixtures`: runs the Transformers oracle in a Python environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use qwen3_command::Temporary;
use sha2::{Digest, Sha256};

use crate::cache::{self, Lock};
use crate::compare::compare;
use crate::workspace::{copy_all, on_path, root, run_for_set_up};
use qwen3_command::child;

/// The end of `cargo xtask fixtures --help`.
pub const NOTES: &str = "\
The oracle is tools/oracle.py. Its packages are pinned with hashes in tools/requirements.txt and installed
once, with uv or else with python3's venv and pip, into $XDG_CACHE_HOME/qwen3-burn or
~/.cache/qwen3-burn: PyTorch and Transformers, about 3 GB to download, 7 GB on disk.

Examples:
  cargo xtask fixtures            write fixtures/ and manifest.json
  cargo xtask fixtures --check    write nothing; exit 1 when a file would differ";

/// What the oracle writes.
const OUTPUTS: [&str; 2] = ["manifest.json", "fixtures"];

/// What the oracle takes over from the folder that it writes into: the trained checkpoint, the strings with the
/// digests of the official tokenizer's tokens, and what is not its own.
const INPUTS: [&str; 3] =
    ["fixtures/checkpoints/trained-tiny", "fixtures/text/strings.npz", "fixtures/hostile"];

/// What a finished environment holds, beside the packages that its folder's name stands for.
const STAMP: &str = "oracle environment, recipe 1\n";

/// Arguments of `cargo xtask fixtures`.
#[derive(clap::Args)]
pub struct Args {
    /// Make them in a temporary folder and compare every file with the repository's.
    #[arg(long)]
    check: bool,
}

/// Makes the fixtures, or checks them; returns 1 when the check finds a difference.
pub fn run(args: &Args) -> Result<u8> {
    let root = root();
    if !args.check {
        make(&root, &root)?;
        return Ok(0);
    }
    let made = Temporary::new()?;
    for input in INPUTS {
        copy_all(&root.join(input), &made.path().join(input))?;
    }
    make(&root, made.path())?;
    let comparison = compare(made.path(), &root, &OUTPUTS)?;
    for line in &comparison.differences {
        println!("{line}");
    }
    let differences = comparison.differences.len();
    if differences == 0 {
        println!("{} files identical", comparison.identical);
        return Ok(0);
    }
    println!("{} files identical, {differences} not", comparison.identical);
    Ok(1)
}

fn make(root: &Path, output: &Path) -> Result<()> {
    let mut oracle = oracle(root, "fixtures")?;
    eprintln!("xtask: running the oracle");
    oracle.arg("--output-dir").arg(output).current_dir(root);
    let status = child::status(&mut oracle).context("python cannot be started")?;
    if !status.success() {
        bail!("tools/oracle.py fixtures failed ({status})");
    }
    Ok(())
}

/// `tools/oracle.py` with one of its commands, with its pinned packages and nothing else.
///
/// # Errors
/// When the packages cannot be installed.
pub fn oracle(root: &Path, command: &str) -> Result<Command> {
    let mut oracle = oracle_with(&python(root)?, root, command);
    oracle.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    Ok(oracle)
}

/// The same with the packages that `python` has.
pub fn oracle_with(python: &Path, root: &Path, command: &str) -> Command {
    let mut oracle = Command::new(python);
    oracle.arg(root.join("tools/oracle.py")).arg(command).env("PYTHONDONTWRITEBYTECODE", "1");
    oracle
}

/// The Python that has the oracle's packages, PyTorch and Transformers among them.
///
/// # Errors
/// When they cannot be installed.
pub fn python(root: &Path) -> Result<PathBuf> {
    environment(&root.join("tools"))
}

/// The python of an environment with exactly the packages of `tools/requirements.txt`, made when it is missing.
fn environment(tools: &Path) -> Result<PathBuf> {
    let requirements = tools.join("requirements.txt");
    let pins =
        fs::read(&requirements).with_context(|| format!("{} cannot be read", requirements.display()))?;
    let folder = cache::folder()?.join(folder_name(&pins));
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if cache::is_complete(&folder, STAMP) && python.exists() {
        return Ok(python);
    }
    let _lock = Lock::take(&folder)?;
    // Another process may have made it while this one waited.
    if !cache::is_complete(&folder, STAMP) || !python.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("{} cannot be replaced", folder.display()))?;
        }
        eprintln!(
            "xtask: installing the oracle's packages into {} (about 3 GB to download)",
            folder.display()
        );
        install(tools, &folder, &python)?;
        cache::complete(&folder, STAMP)?;
    }
    Ok(python)
}

/// Made in place, for environments cannot be moved; the stamp is what says that one is finished.
fn install(tools: &Path, folder: &Path, python: &Path) -> Result<()> {
    let (mut create, mut install);
    if on_path(if cfg!(windows) { "uv.exe" } else { "uv" }).is_some() {
        create = Command::new("uv");
        create.arg("venv");
        install = Command::new("uv");
        install.args(["pip", "install", "--python"]).arg(python);
    } else {
        create = Command::new(if cfg!(windows) { "python" } else { "python3" });
        create.args(["-m", "venv"]);
        install = Command::new(python);
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
    }
    // In tools/, where uv reads which Python the project wants.
    run_for_set_up(create.arg(folder).current_dir(tools))
        .context("no Python environment could be made (install uv, or python3 with venv)")?;
    run_for_set_up(install.args(["--require-hashes", "-r", "requirements.txt"]).current_dir(tools))
        .context("the oracle's packages could not be installed")
}

/// `oracle-` and the first 12 hexadecimal digits of the SHA-256 of requirements.txt.
fn folder_name(pins: &[u8]) -> String {
    let digest = Sha256::digest(pins);
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("oracle-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pins_get_another_environment() {
        assert_eq!(folder_name(b"abc"), "oracle-ba7816bf8f01");
        assert_ne!(folder_name(b"torch==2.9.0"), folder_name(b"torch==2.9.1"));
    }
}
