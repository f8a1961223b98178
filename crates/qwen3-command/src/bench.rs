use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use qwen3_trace::{Kernels, Precision};

use crate::values::{BackendWord, backend_word, dtype, kernels};
use crate::words::Words;

/// A count of at least one.
fn count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1 << 24)
}

/// How much is measured.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct BenchSizes {
    /// Lengths of the prompts to read, in tokens, separated by commas; default 32,128,512,2048.
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count(),
          default_values_t = [32, 128, 512, 2048], hide_default_value = true)]
    pub prompt: Vec<usize>,
    /// Tokens to generate in each measurement of decoding.
    #[arg(long = "gen", value_name = "N", value_parser = count(), default_value_t = 64)]
    pub generate: usize,
    /// Tokens in the cache before decoding, separated by commas; default 128,8192.
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count(),
          default_values_t = [128, 8192], hide_default_value = true)]
    pub context: Vec<usize>,
    /// Sequences decoded side by side at the first context, separated by commas; default 1,4,16. One sequence is
    /// decoded in any case.
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = count(),
          default_values_t = [1, 4, 16], hide_default_value = true)]
    pub batch: Vec<usize>,
    /// Samples of every figure.
    #[arg(long, value_name = "N", value_parser = count(), default_value_t = 3)]
    pub runs: usize,
    /// Threads of every run and limit; as many as there are processors when left out.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=4096))]
    pub threads: Option<usize>,
    /// Of the first run's random tokens; the next ones count on.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32))]
    pub seed: u32,
}

impl BenchSizes {
    /// The threads of every run.
    pub fn threads(&self) -> usize {
        let there = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(there)
    }

    /// The words of a command line that parses to the same, sizes that are given twice apart, without `--runs` and
    /// `--seed`.
    fn common(&self) -> Words {
        let mut words = Words::default();
        words.list("--prompt", &once(&self.prompt));
        words.text("--gen", Some(&self.generate.to_string()));
        words.list("--context", &once(&self.context));
        words.list("--batch", &once(&self.batch));
        words.text("--threads", self.threads.map(|threads| threads.to_string()).as_deref());
        words
    }

    /// The words of a command line that parses to the same.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = self.common();
        words.text("--runs", Some(&self.runs.to_string()));
        words.text("--seed", Some(&self.seed.to_string()));
        words.0
    }

    /// The sizes of one run among several: one sample of every figure, with tokens of its own.
    pub fn of_run(&self, run: usize) -> Self {
        let seed = self.seed.wrapping_add(u32::try_from(run).unwrap_or(u32::MAX));
        Self { runs: 1, seed, threads: Some(self.threads()), ..self.clone() }
    }
}

/// Without what came before.
fn once(sizes: &[usize]) -> Vec<usize> {
    let mut kept = Vec::new();
    for &size in sizes {
        if !kept.contains(&size) {
            kept.push(size);
        }
    }
    kept
}

/// A model of random weights to measure, by its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Synthetic {
    /// Two layers: to try the command out
    Tiny,
    /// Qwen3-0.6B: 1.2 GB
    #[value(name = "0.6b")]
    B0_6,
    /// Qwen3-1.7B: 3.4 GB
    #[value(name = "1.7b")]
    B1_7,
    /// Qwen3-4B: 8 GB
    #[value(name = "4b")]
    B4,
}

impl fmt::Display for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no shape is hidden");
        f.write_str(value.get_name())
    }
}

/// Another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    /// Hugging Face Transformers with PyTorch, in the oracle's environment
    Transformers,
    /// llama.cpp, through llama-cpp-python
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// candle, built from tools/peers/candle on first use
    Candle,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no peer is hidden");
        f.write_str(value.get_name())
    }
}

/// Arguments of `bench`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct BenchArgs {
    /// The backends to measure, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "ndarray,flex", value_parser = backend_word())]
    pub backend: Vec<BackendWord>,
    /// Whether flex computes with this project's kernels, or is composed of Burn's own operations; both, separated
    /// by a comma, to compare.
    #[arg(long, value_delimiter = ',', value_name = "on,off", default_value = "on", hide_possible_values = true, value_parser = kernels())]
    pub kernels: Vec<Kernels>,
    /// The dtypes to measure, separated by commas; what a backend does not compute in is skipped, and said.
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "f32", value_parser = dtype())]
    pub dtype: Vec<Precision>,
    /// The model: a folder, or a record, which only ours read.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "synthetic")]
    pub model: Option<PathBuf>,
    /// A model of random weights of this shape instead, made once; 0.6b when no --model is given.
    #[arg(long, value_name = "SHAPE")]
    pub synthetic: Option<Synthetic>,
    /// How much is measured.
    #[command(flatten)]
    pub sizes: BenchSizes,
    /// Other engines on the same weights, in turns with ours, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub peers: Vec<Peer>,
    /// How long to wait before each run for other processes to let the machine go, in seconds; a run that is
    /// disturbed is marked.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u32,
    /// A run that takes longer is ended, and reported as skipped.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub give_up: u32,
    /// Write every figure with its samples to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write tables into this Markdown file, between its marks of a benchmark; the rest of it stays.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write tables and plots to this file, one page that needs no network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl BenchArgs {
    /// The words of a command line that parses to the same.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.list("--backend", &self.backend);
        words.list("--kernels", &self.kernels);
        words.list("--dtype", &self.dtype);
        words.file("--model", self.model.as_deref());
        words.text("--synthetic", self.synthetic.map(|shape| shape.to_string()).as_deref());
        words.0.extend(self.sizes.words());
        words.list("--peers", &self.peers);
        words.text("--wait", Some(&self.wait.to_string()));
        words.text("--give-up", Some(&self.give_up.to_string()));
        words.file("--json", self.json.as_deref());
        words.file("--markdown", self.markdown.as_deref());
        words.file("--html", self.html.as_deref());
        words.0
    }

    /// The shape of random weights to make, when no model is named.
    pub fn shape(&self) -> Option<Synthetic> {
        let default = self.model.is_none().then_some(Synthetic::B0_6);
        self.synthetic.or(default)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(words: impl IntoIterator<Item = OsString>) -> Result<BenchArgs, clap::Error> {
        let line = [OsString::from("bench")].into_iter().chain(words);
        Line::try_parse_from(line).map(|line| line.args)
    }

    fn of(line: &str) -> Result<BenchArgs, clap::Error> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn words_parse_to_the_same() {
        for line in [
            "",
            "--synthetic 4b --prompt 1 --gen 2 --context 3,4 --batch 5 --runs 6 --threads 7 --seed 8 --wait 0 --give-up 9",
            "--backend all,cuda --kernels off --dtype f16,bf16 --model m --peers candle,llama.cpp,transformers --json a --html b --markdown c",
        ] {
            let args = of(line).expect("a good command line");
            assert_eq!(parse(args.words()).expect("so are its words"), args, "{line}");
        }
    }

    #[test]
    fn a_run_takes_one_sample_of_its_own_tokens() {
        let sizes = of("--runs 5 --seed 3 --threads 2").unwrap().sizes;
        let run = sizes.of_run(2);
        assert_eq!((run.runs, run.seed, run.threads), (1, 5, Some(2)));
    }

    #[test]
    fn a_size_is_measured_once() {
        let again = parse(of("--prompt 4,2,4 --batch 1,1").unwrap().words()).unwrap().sizes;
        assert_eq!((again.prompt, again.batch), (vec![4, 2], vec![1]));
    }

    #[test]
    fn nothing_and_impossible_sizes_are_refused() {
        for line in
            ["--prompt 0", "--gen 0", "--runs 0", "--batch 1,0", "--context -1", "--threads 0", "--prompt ''"]
        {
            assert_eq!(of(line).err().map(|error| error.exit_code()), Some(2), "{line}");
        }
        assert!(of("--model m --synthetic tiny").is_err());
        assert_eq!(of("").unwrap().shape(), Some(Synthetic::B0_6));
        assert_eq!(of("--model m").unwrap().shape(), None);
    }
}
