use std::ffi::OsString;
use std::path::PathBuf;

use crate::words::Words;

/// What `doctor --help` ends with.
pub const DOCTOR_NOTES: &str = "\
What is found is named when the same change, made to the original, gives what is in the files, in some precision:
exchanged or stale tensors and layers, transposed ones, rows of queries and keys permuted for interleaved RoPE (an order
of GGUF files, and no damage), norm weights minus one, scaled tensors and rows, zero, stale and exchanged rows, a head
tied or not, the difference that a merged adapter makes, NaN, and which precision values went through.

Examples:
  cargo xtask doctor --model model-q8_0.gguf --original Qwen3-0.6B
  cargo xtask doctor --model model.bpk --original Qwen3-0.6B --html doctor.html
  cargo xtask doctor --model MERGED --original BASE --json doctor.json --all

Exit codes: 0 the same, or only the precision or the order differs; 1 something is wrong; 2 usage or bad input.";

/// Arguments of `doctor`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct DoctorArgs {
    /// The checkpoint to look at: a folder in Hugging Face's layout, a record (.bpk) or a GGUF file; of `cargo xtask doctor`
    /// a name on the hub, too.
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// What it was made of, and should still be: as --model.
    #[arg(long, value_name = "PATH")]
    pub original: PathBuf,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report for people to this file, with nothing to load from elsewhere.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print a line for every tensor; reports have all.
    #[arg(long)]
    pub all: bool,
}

impl DoctorArgs {
    /// The words of a command line that parses to the same.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.file("--model", Some(&self.model));
        words.file("--original", Some(&self.original));
        words.file("--json", self.json.as_deref());
        words.file("--html", self.html.as_deref());
        words.flag("--all", self.all);
        words.0
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DoctorArgs,
    }

    #[test]
    fn words_parse_to_the_same() {
        let parse = |words: Vec<OsString>| {
            Line::try_parse_from([OsString::from("doctor")].into_iter().chain(words)).unwrap().args
        };
        for line in ["--model m --original o", "--model m --original o --json j --html h --all"] {
            let args = parse(line.split_whitespace().map(Into::into).collect());
            assert_eq!(parse(args.words()), args, "{line}");
        }
    }
}
