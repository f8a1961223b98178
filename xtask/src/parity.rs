//! `cargo xtask parity`: builds the fixture runner with the backends asked for, and starts it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::backend::{self, Backend, Switch};
use crate::launch::{self, Dtype, SetUp};
use crate::runner;
use crate::workspace::Workspace;

/// The end of `cargo xtask parity --help`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask parity
  cargo xtask parity --backend all --json report.json
  cargo xtask parity --backend flex,tch --dtype f16,bf16 --filter layer-1/attn
  cargo xtask parity --list

The runner is built with cargo first: minutes the first time, seconds later. Backends built before
stay in the build, so that going back and forth compiles nothing twice. tch brings libtorch itself
when it is missing (see `cargo xtask setup --help`).";

/// Arguments of `cargo xtask parity`.
#[derive(clap::Args)]
pub struct Args {
    /// The backends to run on, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        default_value = "ndarray"
    )]
    backend: Vec<Backend>,
    /// Only these dtypes, separated by commas; those that each backend has when left out.
    #[arg(long, value_delimiter = ',', value_name = "DTYPE")]
    dtype: Vec<Dtype>,
    /// Only the cases with this text in their id.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Also the slow cases (50 prompts x 64 tokens), which otherwise run when --filter picks them: minutes on
    /// a software GPU.
    #[arg(long)]
    slow: bool,
    /// The catalogue of cases; the repository's manifest.json when left out.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Write every metric of every tensor to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Build wgpu and cuda with autotune, which is off otherwise (compiles for minutes; on a software GPU,
    /// runs for minutes).
    #[arg(long, value_delimiter = ',', value_name = "SWITCH")]
    with: Vec<Switch>,
    /// Build wgpu and cuda without fusion, which is on otherwise (compiles for minutes).
    #[arg(long, value_delimiter = ',', value_name = "SWITCH")]
    without: Vec<Switch>,
    /// List the cases and run none.
    #[arg(long)]
    list: bool,
    /// More arguments for the runner, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl Args {
    /// Every case on these backends, with a report in `json`: what `cargo xtask test` runs.
    pub fn every_case(backend: Vec<Backend>, json: PathBuf) -> Self {
        Self {
            backend,
            dtype: vec![],
            filter: None,
            slow: true,
            manifest: None,
            json: Some(json),
            with: vec![],
            without: vec![],
            list: false,
            rest: vec![],
        }
    }
}

/// Builds and runs; returns the runner's exit code.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let manifest = args
        .manifest
        .clone()
        .unwrap_or_else(|| workspace.root.join("manifest.json"));
    launch::check_manifest(&manifest)?;
    launch::check_outputs([args.json.as_deref()])?;

    let asked = backend::expand(&args.backend);
    let set_up = SetUp::of(&workspace.root, &asked, args.list);
    let libtorch = set_up.libtorch.as_deref();
    let switches = backend::switches(&args.with, &args.without);
    let runner = runner::build(&workspace, &asked, &switches, libtorch)?;
    let unavailable = set_up.tch_unavailable.as_deref();
    launch::start(&runner, runner_arguments(args, &manifest, unavailable))
}

fn runner_arguments(
    args: &Args,
    manifest: &Path,
    tch_unavailable: Option<&str>,
) -> Vec<std::ffi::OsString> {
    let mut words = vec![
        "parity".into(),
        "--backend".into(),
        backend::join(args.backend.clone()).into(),
    ];
    if !args.dtype.is_empty() {
        let dtypes: Vec<_> = args.dtype.iter().map(|dtype| dtype.name()).collect();
        words.extend(["--dtype".into(), dtypes.join(",").into()]);
    }
    // One word, for the text may begin with a hyphen.
    words.extend(
        args.filter
            .iter()
            .map(|text| format!("--filter={text}").into()),
    );
    words.extend(args.slow.then(|| "--slow".into()));
    words.extend(["--manifest".into(), manifest.into()]);
    words.extend(
        args.json
            .iter()
            .flat_map(|file| ["--json".into(), file.into()]),
    );
    words.extend(args.list.then(|| "--list".into()));
    words.extend(
        tch_unavailable
            .iter()
            .flat_map(|reason| ["--unavailable".into(), format!("tch={reason}").into()]),
    );
    words.extend(args.rest.iter().map(Into::into));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn arguments(line: &[&str], unavailable: Option<&str>) -> String {
        use clap::Parser;
        let line = Line::try_parse_from(std::iter::once(&"parity").chain(line))
            .expect("a good command line");
        let words = runner_arguments(&line.args, Path::new("manifest.json"), unavailable);
        words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn the_default_is_ndarray() {
        assert_eq!(
            arguments(&[], None),
            "parity|--backend|ndarray|--manifest|manifest.json"
        );
    }

    #[test]
    fn flags_are_passed_on() {
        assert_eq!(
            arguments(
                &[
                    "--backend",
                    "flex,all",
                    "--dtype",
                    "f16,bf16",
                    "--filter",
                    "-x",
                    "--slow",
                    "--json",
                    "r.json",
                    "--list"
                ],
                Some("no network")
            ),
            "parity|--backend|flex,all|--dtype|f16,bf16|--filter=-x|--slow|--manifest|manifest.json|--json|r.json|--list|\
             --unavailable|tch=no network"
        );
        assert_eq!(
            arguments(&["--", "--more", "1"], None),
            "parity|--backend|ndarray|--manifest|manifest.json|--more|1"
        );
    }
}
