use std::ffi::OsString;
use std::path::PathBuf;

use qwen3_trace::{Kernels, Precision};

use crate::values::{BackendWord, DEFAULT_BACKEND, backend_word, dtype, kernels};
use crate::words::Words;

/// Arguments of `parity`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct ParityArgs {
    /// The backends to run on, separated by commas; when left out the fastest that needs nothing installed.
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_value = DEFAULT_BACKEND.name(), value_parser = backend_word())]
    pub backend: Vec<BackendWord>,
    /// Only these dtypes, separated by commas; those that each backend has when left out.
    #[arg(long, value_delimiter = ',', value_name = "DTYPE", value_parser = dtype())]
    pub dtype: Vec<Precision>,
    /// Whether flex computes with this project's kernels, or is composed of Burn's own operations; both, separated
    /// by a comma, to compare.
    #[arg(long, value_delimiter = ',', value_name = "on,off", default_value = "on", hide_possible_values = true, value_parser = kernels())]
    pub kernels: Vec<Kernels>,
    /// Only the cases with this text in their id or kind.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub filter: Option<String>,
    /// Also the slow cases (50 prompts x 64 tokens), which otherwise run when --filter picks them: minutes on
    /// a software GPU.
    #[arg(long)]
    pub slow: bool,
    /// The catalogue of cases; manifest.json when left out.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Write every metric of every tensor to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print the rows of failures only; reports have all.
    #[arg(long)]
    pub fail_only: bool,
    /// List the cases and run none.
    #[arg(long)]
    pub list: bool,
}

impl ParityArgs {
    /// The words of a command line that parses to the same.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.list("--backend", &self.backend);
        words.list("--dtype", &self.dtype);
        words.list("--kernels", &self.kernels);
        words.text("--filter", self.filter.as_deref());
        words.flag("--slow", self.slow);
        words.file("--manifest", self.manifest.as_deref());
        words.file("--json", self.json.as_deref());
        words.file("--junit", self.junit.as_deref());
        words.flag("--fail-only", self.fail_only);
        words.flag("--list", self.list);
        words.0
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ParityArgs,
    }

    fn parse(words: impl IntoIterator<Item = OsString>) -> ParityArgs {
        let line = [OsString::from("parity")].into_iter().chain(words);
        Line::try_parse_from(line).expect("a good command line").args
    }

    #[test]
    fn words_parse_to_the_same() {
        for line in [
            "",
            "--backend flex,all --dtype f16,bf16 --kernels on,off --filter -x --slow --json r.json --junit r.xml --fail-only --list --manifest m.json",
        ] {
            let args = parse(line.split_whitespace().map(Into::into));
            assert_eq!(parse(args.words()), args, "{line}");
        }
        let usual = parse([]).words();
        assert_eq!(usual, ["--backend=flex", "--kernels=on"]);
    }
}
