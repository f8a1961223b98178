//! `cargo xtask fuzz`: builds the programs, and starts the one that gives them hostile input.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use qwen3_trace::Backend;

use crate::backend::Backends;
use crate::workspace::{Workspace, exit_code};
use crate::{launch, libtorch, programs};
use qwen3_command::child;

/// The end of `cargo xtask fuzz --help`.
pub const NOTES: &str = "\
Good files (checkpoints, tokenizers, templates, records, references, manifests, conversations, reports and command
lines) are changed one at a time and given to qwen3, fixture-runner, qwen3-verify and xtask, each in a process of its own. Expected
is exit code 0, 2 with one line that names the file, or 1 where a comparison differs: no panic, no signal, nothing left
behind, and no more than 10 s and 500 MB. What was found before is in fixtures/hostile, and is tried first.

Examples:
  cargo xtask fuzz                                two minutes of seed 11
  cargo xtask fuzz --minutes 60 --seed 4 --format template,tokenizer --json fuzz.json
  cargo xtask fuzz --seed 4 --only template:17 --keep found      one input again
  cargo xtask fuzz --only corpus:minuses                         one case of fixtures/hostile

A seed gives the same inputs on every machine. The backends built before stay in the build; without any, ndarray and
flex are built.";

/// Arguments of `cargo xtask fuzz`; those of the program that it starts, which checks them.
#[derive(clap::Args)]
pub struct Args {
    /// How long to try inputs, after fixtures/hostile; 2 when left out.
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Of the random numbers; 11 when left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The formats, separated by commas: safetensors, index, config, tokenizer, template, generation-config, record,
    /// gguf, npz, npy, torch, debug-tree, manifest, messages, report, device-map, flags; all when left out.
    #[arg(long, value_name = "LIST")]
    format: Option<String>,
    /// One input alone: FORMAT:INDEX, or corpus:NAME.
    #[arg(long, value_name = "INPUT")]
    only: Option<String>,
    /// Keep the files of findings in this folder; in a temporary one when left out.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write inputs tried by format, and findings, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// More arguments for the program, after `--`: --inputs, --limit-seconds, --limit-mb, --at-once.
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

impl Args {
    /// Some minutes of the default seed, with a report in `json`.
    pub fn minutes(minutes: f64, json: PathBuf) -> Self {
        let rest = Vec::new();
        Self {
            minutes: Some(minutes),
            seed: None,
            format: None,
            only: None,
            keep: None,
            json: Some(json),
            rest,
        }
    }

    fn words(&self) -> Vec<OsString> {
        let text = |flag: &str, value: Option<String>| value.map(|value| format!("--{flag}={value}").into());
        let file = |flag: &str, file: &Option<PathBuf>| {
            file.iter().flat_map(|file| [flag.into(), file.into()]).collect()
        };
        let texts = [
            text("minutes", self.minutes.map(|minutes| minutes.to_string())),
            text("seed", self.seed.map(|seed| seed.to_string())),
            text("format", self.format.clone()),
            text("only", self.only.clone()),
        ];
        let files: [Vec<OsString>; 2] = [file("--keep", &self.keep), file("--json", &self.json)];
        let rest = self.rest.iter().map(Into::into);
        texts.into_iter().flatten().chain(files.into_iter().flatten()).chain(rest).collect()
    }
}

/// Builds and runs; returns the program's exit code.
///
/// # Errors
/// When a build fails.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    launch::check_outputs([("--json", &args.json)])?;
    let libtorch = libtorch::find(&workspace.root).ok().flatten().map(|libtorch| libtorch.folder);
    let asked = Backends::from([Backend::Ndarray, Backend::Flex]);
    let names = ["qwen3", "fixture-runner", "qwen3-verify", "qwen3-fuzz"];
    let [qwen3, runner, verify, fuzz] = programs::build(&workspace, &asked, libtorch.as_deref(), names)?;
    let mut command = Command::new(fuzz);
    command.arg("--root").arg(&workspace.root);
    command.arg("--qwen3").arg(qwen3).arg("--fixture-runner").arg(runner);
    command.arg("--qwen3-verify").arg(verify);
    command.arg("--xtask").arg(std::env::current_exe().context("this program's own path")?);
    let status = child::status(command.args(args.words())).context("qwen3-fuzz cannot be started")?;
    Ok(exit_code("qwen3-fuzz", status))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_given_is_passed_on() {
        let words = Args::minutes(2.0, Path::new("a b.json").into()).words();
        assert_eq!(words, ["--minutes=2", "--json", "a b.json"]);
    }
}
