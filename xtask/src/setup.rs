//! `cargo xtask setup`: what the tch and wgpu backends need that cargo does not bring.

use anyhow::Result;
use clap::ValueEnum;

use crate::vulkan::Need;
use crate::{libtorch, vulkan, workspace};

/// The end of `cargo xtask setup --help`.
pub const NOTES: &str = "\
tch   The CPU parts of PyTorch 2.9.0 (Linux on x86-64; 900 MB to download, 490 MB kept), in
      $XDG_CACHE_HOME/qwen3-burn or ~/.cache/qwen3-burn, and .libtorch in the repository as a link to
      them. Needs python3 with pip. A LIBTORCH of your own is used instead, and nothing is downloaded.
wgpu  Mesa's software Vulkan driver, on Debian or Ubuntu as root, when there is no driver at all.
      Elsewhere the command to run is printed.
What is there already is left alone. The ndarray and flex backends need nothing.

Examples:
  cargo xtask setup
  cargo xtask setup --backend tch
  LIBTORCH=/opt/libtorch cargo xtask parity --backend tch";

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// What to set up, separated by commas; both when left out.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    backend: Vec<Part>,
}

impl Args {
    /// tch and wgpu.
    pub fn both() -> Self {
        Self { backend: vec![] }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Tch,
    Wgpu,
}

/// Sets up each part asked for, the second also when the first fails; the last error is returned.
pub fn run(args: &Args) -> Result<u8> {
    let wanted = |part| args.backend.is_empty() || args.backend.contains(&part);
    let mut result = Ok(0);
    for part in [Part::Tch, Part::Wgpu].into_iter().filter(|&part| wanted(part)) {
        let done = match part {
            Part::Tch => tch(),
            Part::Wgpu => wgpu(),
        };
        match (done, &result) {
            (Ok(line), _) => println!("{line}"),
            (Err(error), Ok(_)) => result = Err(error),
            (Err(error), Err(_)) => eprintln!("xtask: {}", qwen3_command::line(&error)),
        }
    }
    result
}

fn tch() -> Result<String> {
    libtorch::require_cxx()?;
    let libtorch = libtorch::ensure(&workspace::root())?;
    let whose = if libtorch.users_own { "your own libtorch" } else { "libtorch" };
    Ok(format!("tch: ready: {whose} in {}", libtorch.folder.display()))
}

fn wgpu() -> Result<String> {
    let before = vulkan::need();
    vulkan::ensure()?;
    Ok(match before {
        Need::Nothing => "wgpu: ready: nothing to install".into(),
        _ => "wgpu: ready: Mesa's software Vulkan driver installed".into(),
    })
}
