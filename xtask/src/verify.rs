//! `cargo xtask verify`: builds the fixture runner with the backends asked for, and has it compare a
//! checkpoint with a reference.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::backend::{self, Backend, Switch};
use crate::launch::{self, Dtype, SetUp};
use crate::runner;
use crate::workspace::Workspace;

/// The end of `cargo xtask verify --help`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask reference --model DIR --out ref --prompt 'The capital of France is'
  cargo xtask verify --model DIR --reference ref/prompt1/reference.npz
  cargo xtask verify --model DIR --reference FILE.npz --backend all --html report.html
  cargo xtask verify --model DIR --reference FILE.npz --observed mine.npz
  cargo xtask verify --model DIR --reference FILE.npz --layers 3..7 --mode isolated
  cargo xtask verify --model DIR --reference FILE.npz --backend wgpu --variants
  cargo xtask verify --model DIR --backend all

--observed takes activations of any framework under the reference's keys, any subset of
embedding_output, layer_00_output .., final_norm_output, logits, generated_ids, and inside a layer
layer_00.input_layernorm, layer_00.self_attn.q_proj (k_proj, v_proj, q_norm, k_norm, q_rope, k_rope,
context, o_proj), layer_00.post_attention_layernorm, layer_00.mlp.";

/// Arguments of `cargo xtask verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a directory in Hugging Face's layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// What should come out (`cargo xtask reference` makes it). Without one, the backends are compared
    /// with each other.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Activations to check instead of ours: npz or safetensors.
    #[arg(long, value_name = "FILE", requires = "reference")]
    observed: Option<PathBuf>,
    /// The backends to run on, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        default_value = "ndarray"
    )]
    backend: Vec<Backend>,
    /// The dtype to run in; with --observed, the one that the activations were made in.
    #[arg(long, default_value = "f32", value_name = "DTYPE")]
    dtype: Dtype,
    /// How layers get their input, separated by commas: accumulated (from the layer before), isolated
    /// (from the reference), patched (the reference injected behind each layer). All three when left out.
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Only these layers: 3..7, 3..=6, 3.. or 3.
    #[arg(long, value_name = "A..B")]
    layers: Option<String>,
    /// Fixed thresholds instead of calibrated limits: seed-003 (cosine 0.99, mean squared error 1e-4,
    /// relative error 0.01) or seed-004 (mean squared error 1e-5).
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Without a reference: the prompt's token ids, separated by commas.
    #[arg(long, value_name = "IDS", conflicts_with = "reference")]
    ids: Option<String>,
    /// Run wgpu with fusion and autotune, and again without each, and name the switch under which a
    /// failure goes away. Compiles Burn three times: 20 minutes on two idle cores.
    #[arg(long)]
    variants: bool,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write JUnit XML to this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report for people to this file, with nothing to load from elsewhere.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Builds and runs; returns the runner's exit code.
///
/// # Errors
/// When something is missing before the build, or the build fails.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    ensure!(
        args.model.join("config.json").is_file(),
        "{}: no checkpoint is there (no config.json)",
        args.model.display()
    );
    for file in [&args.reference, &args.observed].into_iter().flatten() {
        ensure!(file.is_file(), "there is no file {}", file.display());
    }
    launch::check_outputs([&args.json, &args.junit, &args.html].map(|file| file.as_deref()))?;

    let asked = backend::expand(&args.backend);
    ensure!(
        !args.variants || asked.contains(&Backend::Wgpu),
        "--variants is about wgpu: add --backend wgpu"
    );
    // Somebody else's activations need no backend but the default's build.
    let built = match args.observed {
        Some(_) => backend::expand(&[Backend::Ndarray]),
        None => asked,
    };
    let set_up = SetUp::of(&workspace.root, &built, false);
    let libtorch = set_up.libtorch.as_deref();
    let mut variants = Vec::new();
    let mut switches = backend::switches(&[], &[]);
    if args.variants {
        switches = backend::switches(&[Switch::Autotune], &[]);
        let folder = workspace.target.join("variants");
        for switch in [Switch::Fusion, Switch::Autotune] {
            let others = backend::switches(&[Switch::Autotune], &[switch]);
            let runner = runner::build(&workspace, &built, &others, libtorch)?;
            let copy = folder.join(format!("fixture-runner-without-{}", switch.name()));
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::copy(&runner, &copy))
                .with_context(|| format!("{} cannot be written", copy.display()))?;
            variants.push((format!("without {}", switch.name()), copy));
        }
    }
    let runner = runner::build(&workspace, &built, &switches, libtorch)?;
    let words = runner_arguments(args, set_up.tch_unavailable.as_deref(), &variants);
    launch::start(&runner, words)
}

fn runner_arguments(
    args: &Args,
    tch_unavailable: Option<&str>,
    variants: &[(String, PathBuf)],
) -> Vec<OsString> {
    let mut words: Vec<OsString> =
        vec!["verify".into(), "--model".into(), args.model.clone().into()];
    let files = [
        ("--reference", &args.reference),
        ("--observed", &args.observed),
        ("--json", &args.json),
        ("--junit", &args.junit),
        ("--html", &args.html),
    ];
    for (flag, file) in files {
        words.extend(file.iter().flat_map(|file| [flag.into(), file.into()]));
    }
    words.extend([
        "--backend".into(),
        backend::join(args.backend.clone()).into(),
    ]);
    words.extend(["--dtype".into(), args.dtype.name().into()]);
    let texts = [
        ("--mode", &args.mode),
        ("--layers", &args.layers),
        ("--preset", &args.preset),
        ("--ids", &args.ids),
    ];
    for (flag, text) in texts {
        words.extend(text.iter().map(|text| format!("{flag}={text}").into()));
    }
    let reason = tch_unavailable.iter();
    words
        .extend(reason.flat_map(|reason| ["--unavailable".into(), format!("tch={reason}").into()]));
    for (label, program) in variants {
        let mut word = OsString::from(format!("{label}="));
        word.push(program);
        words.extend(["--variant".into(), word]);
    }
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

    #[test]
    fn flags_are_passed_on() {
        use clap::Parser;
        let line = [
            "verify",
            "--model",
            "m",
            "--reference",
            "r.npz",
            "--observed",
            "o.npz",
            "--backend",
            "flex,all",
            "--dtype",
            "bf16",
            "--layers",
            "3..7",
            "--mode",
            "isolated",
            "--html",
            "h.html",
        ];
        let args = Line::try_parse_from(line)
            .expect("a good command line")
            .args;
        let variants = [("without fusion".to_string(), PathBuf::from("/t/r"))];
        let words = runner_arguments(&args, Some("no network"), &variants);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join("|"),
            "verify|--model|m|--reference|r.npz|--observed|o.npz|--html|h.html|--backend|flex,all|\
             --dtype|bf16|--mode=isolated|--layers=3..7|--unavailable|tch=no network|\
             --variant|without fusion=/t/r"
        );
        let only_observed = ["verify", "--model", "m", "--observed", "o.npz"];
        assert!(Line::try_parse_from(only_observed).is_err());
    }
}
