//! Making a libtorch out of PyTorch's wheels.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{STAMP, missing_file};
use crate::cache;
use crate::workspace::run_for_set_up;

/// torch-sys links to `torch`, `torch_cpu` and `c10`. The wheel's libtorch.so needs CUDA's half, so it is
/// replaced with a linker script that names the other two.
const LINKER_SCRIPT: &str = "INPUT(-ltorch_cpu -lc10)\n";

/// The wheels are those of one CPython, whichever python runs pip, so that one hash fits.
const WHEEL_TAGS: [&str; 14] = [
    "--only-binary=:all:",
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux2014_x86_64",
    "--no-deps",
];

/// Downloads and unpacks beside `folder`, then renames: `folder` is complete or not there. Under its lock.
pub fn install(root: &Path, folder: &Path) -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).stderr(Stdio::null()).output();
    if !pip.is_ok_and(|output| output.status.success()) {
        bail!(
            "python3 with pip is needed to download libtorch (Debian: apt-get install python3-pip); or set LIBTORCH \
             to the folder of a PyTorch 2.9.0 libtorch"
        );
    }
    cache::remove_leftovers(folder)?;
    let partial = cache::partial(folder)?;
    let (wheels, unpacked) = (partial.path().join("wheels"), partial.path().join("libtorch"));

    eprintln!("xtask: libtorch 1/2: downloading PyTorch 2.9.0's wheels (900 MB, of which 490 MB are kept)");
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]);
    download.args(WHEEL_TAGS).args(["--require-hashes", "--dest"]).arg(&wheels);
    download.arg("--requirement").arg(root.join("xtask/libtorch-requirements.txt"));
    run_for_set_up(&mut download).context("libtorch could not be downloaded")?;

    eprintln!("xtask: libtorch 2/2: unpacking into {}", folder.display());
    let script = root.join("xtask/unpack_libtorch.py");
    run_for_set_up(Command::new("python3").arg(script).arg(&wheels).arg(&unpacked))
        .context("libtorch could not be unpacked")?;
    fs::write(unpacked.join("lib/libtorch.so"), LINKER_SCRIPT)?;
    if let Some(file) = missing_file(&unpacked) {
        bail!("the wheels gave no {}", file.display());
    }
    cache::complete(&unpacked, STAMP)?;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{} cannot be replaced", folder.display()))?;
    }
    fs::rename(&unpacked, folder).with_context(|| format!("{} cannot be made", folder.display()))
}
