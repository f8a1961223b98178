//! `cargo xtask bundle`: programs, fixtures and a script in one archive, for a machine without Rust or a network.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use qwen3_command::{BackendWord, OutputFile, Temporary, backend_word, backends, child};
use qwen3_trace::Backend;

use crate::backend::join;
use crate::programs;
use crate::workspace::Workspace;

/// The end of `cargo xtask bundle --help`.
pub const NOTES: &str = "\
The archive holds qwen3, fixture-runner, qwen3-verify and qwen3-bench, stripped, the catalogue with its fixtures, and run.sh, which
runs parity, verify and bench on the backends built in and writes their reports into the folder `results`. It needs no
more than the C library of the machine that built it, or a newer one, the driver of the GPU and, for wgpu, Vulkan's loader
(libvulkan.so.1). tch cannot be in it: it needs libtorch.

Examples:
  cargo xtask bundle --backend wgpu,cuda --out qwen3-burn.tar.gz
  tar xzf qwen3-burn.tar.gz && qwen3-burn/run.sh                  there
  qwen3-burn/run.sh bench --synthetic 0.6b --dtype f16            there, one of the three with arguments of its own";

/// Arguments of `cargo xtask bundle`.
#[derive(clap::Args)]
pub struct Args {
    /// The backends to build in, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "wgpu", value_parser = backend_word())]
    backend: Vec<BackendWord>,
    /// The archive to write.
    #[arg(long, value_name = "FILE.tar.gz")]
    out: PathBuf,
}

/// The folder that everything lies in.
const FOLDER: &str = "qwen3-burn";
/// What is built.
const PROGRAMS: [&str; 4] = ["qwen3", "fixture-runner", "qwen3-verify", "qwen3-bench"];
/// Fixtures of tests alone.
const LEFT_OUT: [&str; 3] = ["hostile", "observed", "text"];

/// Builds and packs.
///
/// # Errors
/// When tch is asked for, the build fails, or the archive cannot be written.
pub fn run(args: &Args) -> Result<u8> {
    let asked = backends(&args.backend);
    if asked.contains(&Backend::Tch) {
        bail!("--backend: tch cannot be in a bundle: it needs libtorch");
    }
    let out = OutputFile::regular("--out", &args.out, [])?;
    let workspace = Workspace::find()?;
    let built = programs::build_only(&workspace, &asked, PROGRAMS)?;
    let folder = Temporary::inside(out.folder(), ".bundle-")
        .with_context(|| format!("{} cannot be written to", out.folder().display()))?;
    for (name, program) in PROGRAMS.iter().zip(built) {
        let copy = folder.path().join(name);
        fs::copy(&program, &copy).with_context(|| format!("{} cannot be copied", program.display()))?;
        strip(&copy);
    }
    let archive = folder.path().join("archive");
    pack(&workspace.root, folder.path(), &script(&join(&asked)), &archive)
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    fs::rename(&archive, out.path()).with_context(|| format!("{} cannot be written", args.out.display()))?;
    let size = fs::metadata(out.path())?.len();
    println!("{}: {:.1} MB, with {}", args.out.display(), size as f64 / 1e6, join(&asked));
    Ok(0)
}

/// Without its symbols, where there is a program for that.
fn strip(program: &Path) {
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg(program).stdin(Stdio::null()).stderr(Stdio::null());
    if !child::status(&mut strip).is_ok_and(|status| status.success()) {
        eprintln!("xtask: {} keeps its symbols: there is no `strip` here", program.display());
    }
}

/// Writes the archive.
fn pack(root: &Path, programs: &Path, script: &str, archive: &Path) -> io::Result<()> {
    let out = BufWriter::new(File::create(archive)?);
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::best()));
    for name in PROGRAMS {
        tar.append_path_with_name(programs.join(name), Path::new(FOLDER).join(name))?;
    }
    let run = programs.join("run.sh");
    fs::write(&run, script)?;
    executable(&run)?;
    tar.append_path_with_name(&run, Path::new(FOLDER).join("run.sh"))?;
    for file in ["manifest.json", "README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        tar.append_path_with_name(root.join(file), Path::new(FOLDER).join(file))?;
    }
    for entry in fs::read_dir(root.join("fixtures"))? {
        let entry = entry?;
        if !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            tar.append_dir_all(Path::new(FOLDER).join("fixtures").join(entry.file_name()), entry.path())?;
        }
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(unix)]
fn executable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn executable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// What runs there.
fn script(backends: &str) -> String {
    include_str!("bundle/run.sh").replace("@BACKENDS@", backends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_archive() {
        let programs = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            fs::write(programs.path().join(name), name).unwrap();
        }
        let archive = programs.path().join("a.tar.gz");
        pack(&crate::workspace::root(), programs.path(), &script("flex,wgpu"), &archive).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        let reader = flate2::read::GzDecoder::new(File::open(&archive).unwrap());
        tar::Archive::new(reader).unpack(unpacked.path()).unwrap();
        let folder = unpacked.path().join(FOLDER);
        let run = fs::read_to_string(folder.join("run.sh")).unwrap();
        assert!(run.contains("flex,wgpu") && !run.contains("@BACKENDS@"), "{run}");
        for file in ["qwen3", "manifest.json", "fixtures/gqa-tied/prompt1/reference.npz"] {
            assert!(folder.join(file).is_file(), "{file}");
        }
        assert!(!folder.join("fixtures/hostile").exists());
    }
}
