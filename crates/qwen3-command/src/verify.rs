use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use qwen3_trace::{Kernels, Mode, Precision, Preset, Tolerance};

use crate::values::{BackendWord, DEFAULT_BACKEND, backend_word, dtype, kernels, mode, preset, tolerance};
use crate::words::Words;

/// Arguments of `verify`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct VerifyArgs {
    /// The checkpoint: a directory in Hugging Face's layout; of `cargo xtask verify` a name on the hub, too
    /// (Qwen/Qwen3-0.6B).
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A LoRA adapter in PEFT's layout that the model is run with, unmerged; the reference has to be of the model with
    /// it (`cargo xtask reference --adapter`).
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// What should come out (`cargo xtask reference` makes it), in any format of --observed. Without one, the backends
    /// are compared with each other.
    #[arg(long, value_name = "PATH")]
    pub reference: Option<PathBuf>,
    /// Activations to check instead of ours, under the reference's keys, any subset: a file .safetensors, .npz, .npy, or
    /// .pt, .pth, .bin of torch.save; a folder of .npy files; or what Transformers' model_addition_debugger_context
    /// wrote, its folder or *_FULL_TENSORS.json.
    #[arg(long, value_name = "PATH", requires = "reference")]
    pub observed: Option<PathBuf>,
    /// The backends to run on, separated by commas; when left out the fastest that needs nothing installed.
    #[arg(long, value_delimiter = ',', value_name = "NAME", default_value = DEFAULT_BACKEND.name(), value_parser = backend_word())]
    pub backend: Vec<BackendWord>,
    /// Whether flex computes with this project's kernels, or is composed of Burn's own operations; both, separated
    /// by a comma, to compare.
    #[arg(long, value_delimiter = ',', value_name = "on,off", default_value = "on", hide_possible_values = true, value_parser = kernels())]
    pub kernels: Vec<Kernels>,
    /// The dtype to run in; with --observed, the one that the activations were made in.
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = dtype())]
    pub dtype: Precision,
    /// How layers get their input, separated by commas; all three when left out.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "MODE",
        default_value = "accumulated,isolated,patched",
        hide_default_value = true,
        value_parser = mode()
    )]
    pub mode: Vec<Mode>,
    /// Only these layers: 3..7, 3..=6, 3.. or 3. Without the first, the reference's input is used; without
    /// the last, there are no logits.
    #[arg(long, value_name = "A..B")]
    pub layers: Option<String>,
    /// Fixed thresholds instead of calibrated limits.
    #[arg(long, value_name = "NAME", value_parser = preset())]
    pub preset: Option<Preset>,
    /// What each element may be off by, instead of calibrated limits: a tensor passes when |error| <= atol + rtol *
    /// |expected| for every element, as in numpy.allclose. 0 when only --rtol is given.
    #[arg(long, value_name = "NUMBER", conflicts_with = "preset", value_parser = tolerance)]
    pub atol: Option<f64>,
    /// The share of what is expected that each element may be off by on top of --atol, 0 when only that is given.
    #[arg(long, value_name = "NUMBER", conflicts_with = "preset", value_parser = tolerance)]
    pub rtol: Option<f64>,
    /// What tensors of --observed are that have names of their own: a JSON object of their names and the reference's
    /// keys, with {layer} and {step} for numbers: {"block{layer}_out": "layer_{layer}_output", "kv_cache": null}.
    #[arg(long, value_name = "FILE", requires = "observed")]
    pub names: Option<PathBuf>,
    /// With --observed: a tensor of it that nothing is compared with is an error.
    #[arg(long, requires = "observed")]
    pub strict: bool,
    /// How long to look for causes, for each run that fails; what was found by then is reported.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub diagnose_for: u32,
    /// Without a reference: the prompt's token ids, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "IDS", conflicts_with = "reference")]
    pub ids: Vec<u32>,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a report for people to this file, with nothing to load from elsewhere.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the rows of failures only; reports have all.
    #[arg(long)]
    pub fail_only: bool,
}

impl VerifyArgs {
    /// [`atol`](Self::atol) and [`rtol`](Self::rtol), where either is given.
    pub fn tolerance(&self) -> Option<Tolerance> {
        let Self { atol, rtol, .. } = *self;
        let given = atol.is_some() || rtol.is_some();
        given.then(|| Tolerance { atol: atol.unwrap_or(0.0), rtol: rtol.unwrap_or(0.0) })
    }

    /// [`diagnose_for`](Self::diagnose_for) as a time.
    pub fn diagnose_for(&self) -> Duration {
        Duration::from_secs(self.diagnose_for.into())
    }

    /// The words of a command line that parses to the same.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = Words::default();
        words.file("--model", Some(&self.model));
        words.file("--adapter", self.adapter.as_deref());
        words.file("--reference", self.reference.as_deref());
        words.file("--observed", self.observed.as_deref());
        words.list("--backend", &self.backend);
        words.list("--kernels", &self.kernels);
        words.list("--dtype", &[self.dtype]);
        words.list("--mode", &self.mode);
        words.text("--layers", self.layers.as_deref());
        words.text("--preset", self.preset.map(Preset::name));
        words.text("--atol", self.atol.map(|atol| atol.to_string()).as_deref());
        words.text("--rtol", self.rtol.map(|rtol| rtol.to_string()).as_deref());
        words.file("--names", self.names.as_deref());
        words.flag("--strict", self.strict);
        words.list("--diagnose-for", &[self.diagnose_for]);
        words.list("--ids", &self.ids);
        words.file("--json", self.json.as_deref());
        words.file("--junit", self.junit.as_deref());
        words.file("--html", self.html.as_deref());
        words.flag("--fail-only", self.fail_only);
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
        args: VerifyArgs,
    }

    fn parse(words: impl IntoIterator<Item = OsString>) -> Result<VerifyArgs, clap::Error> {
        let line = [OsString::from("verify")].into_iter().chain(words);
        Ok(Line::try_parse_from(line)?.args)
    }

    #[test]
    fn words_parse_to_the_same() {
        for line in [
            "--model m",
            "--model m --adapter a --reference r.npz --observed o.npz --backend flex,all --dtype bf16 --kernels off,on --layers 3..7 \
             --mode isolated --html h.html --diagnose-for 3 --json j --junit x --preset seed-003",
            "--model m --ids 1,2,3 --preset bf16-reference",
            "--model m --reference r.npz --observed o.npz --atol 1e-5 --rtol 0.001 --names n.json --strict --fail-only",
        ] {
            let args = parse(line.split_whitespace().map(Into::into)).unwrap();
            assert_eq!(parse(args.words()).unwrap(), args, "{line}");
        }
        let only_observed = "--model m --observed o.npz".split(' ').map(Into::into);
        assert!(parse(only_observed).is_err());
    }

    #[test]
    fn a_tolerance_is_of_two_numbers_from_0_on() {
        let parse = |line: &str| parse(line.split(' ').map(Into::into));
        let tolerance = |line| parse(line).unwrap().tolerance();
        assert_eq!(tolerance("--model m"), None);
        assert_eq!(tolerance("--model m --rtol 1e-3"), Some(Tolerance { atol: 0.0, rtol: 1e-3 }));
        for refused in
            ["--atol=-1", "--atol nan", "--rtol inf", "--rtol x", "--atol 1 --preset bf16-reference"]
        {
            assert!(parse(&format!("--model m {refused}")).is_err(), "{refused}");
        }
        assert!(parse("--model m --strict").is_err());
    }

    #[test]
    fn old_names_of_presets_are_hidden() {
        let old = "--model m --preset seed-004".split(' ').map(Into::into);
        assert_eq!(parse(old).unwrap().preset, Some(Preset::Bf16Reference));
        let unknown = "--model m --preset none".split(' ').map(Into::into);
        let error = parse(unknown).unwrap_err().to_string();
        assert!(error.contains("bf16-reference") && !error.contains("seed"), "{error}");
    }
}
