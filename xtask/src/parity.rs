//! `cargo xtask parity`: builds the fixture runner with the backends asked for, and starts it.

use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::{BackendWord, ParityArgs, backends};
use qwen3_trace::{Backend, Kernels};

use crate::backend::{self, Switch};
use crate::launch::{self, SetUp};
use crate::runner;
use crate::workspace::Workspace;

/// The end of `cargo xtask parity --help`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask parity
  cargo xtask parity --backend all --json report.json
  cargo xtask parity --backend flex,tch --dtype f16,bf16 --filter layer-1/attn
  cargo xtask parity --junit report.xml --fail-only
  cargo xtask parity --list

The runner is built with cargo first: minutes the first time, seconds later. Backends built before
stay in the build, so that going back and forth compiles nothing twice. tch brings libtorch itself
when it is missing (see `cargo xtask setup --help`).";

/// The exit code when nothing failed and a backend asked for by name is unavailable, as the runner has it.
const UNAVAILABLE: u8 = 3;

/// Arguments of `cargo xtask parity`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    shared: ParityArgs,
    /// Build wgpu and cuda with autotune, which is off otherwise (compiles for minutes; on a software GPU,
    /// runs for minutes).
    #[arg(long, value_delimiter = ',', value_name = "SWITCH")]
    with: Vec<Switch>,
    /// Build wgpu and cuda without fusion, which is on otherwise (compiles for minutes).
    #[arg(long, value_delimiter = ',', value_name = "SWITCH")]
    without: Vec<Switch>,
    /// More arguments for the runner, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl Args {
    /// Every case on the backends that `all` stands for, with a report in `json`: what `cargo xtask test` runs.
    pub fn every_case(json: PathBuf) -> Self {
        Self {
            shared: ParityArgs {
                backend: Backend::ALL.map(BackendWord::One).into(),
                kernels: Kernels::ALL.into(),
                dtype: vec![],
                filter: None,
                slow: true,
                manifest: None,
                json: Some(json),
                junit: None,
                fail_only: false,
                list: false,
            },
            with: vec![],
            without: vec![],
            rest: vec![],
        }
    }
}

/// Builds and runs; returns the runner's exit code.
///
/// # Errors
/// When something is missing before the build, or the build fails.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let manifest = args.shared.manifest.clone();
    let shared = ParityArgs {
        manifest: manifest.or(Some(workspace.root.join("manifest.json"))),
        ..args.shared.clone()
    };
    launch::check_manifest(shared.manifest.as_deref().expect("just set"))?;
    launch::check_outputs([("--json", &shared.json), ("--junit", &shared.junit)])?;

    let asked = backends(&shared.backend);
    let set_up = SetUp::of(&workspace.root, &asked, shared.list);
    let libtorch = set_up.libtorch.as_deref();
    let switches = backend::switches(&args.with, &args.without);
    let available = set_up.available(&asked);
    // Without a report there is nothing more to say, and nothing to compile for it.
    if available.is_empty() && !shared.list && shared.json.is_none() {
        return Ok(UNAVAILABLE);
    }
    let runner = runner::build(&workspace, &available, &switches, libtorch)?;
    let mut words = vec!["parity".into()];
    words.extend(shared.words());
    words.extend(launch::unavailable(&set_up));
    words.extend(args.rest.iter().map(Into::into));
    launch::start(&runner, words)
}
