//! `cargo xtask verify`: builds the fixture runner with the backends asked for, and has it compare a checkpoint with a
//! reference; activations of somebody else are compared by this program.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use qwen3_command::{VerifyArgs, backends};
use qwen3_trace::Backend;

use crate::backend::{self, Switch};
use crate::launch::{self, SetUp};
use crate::named;
use crate::runner;
use crate::workspace::Workspace;

/// The end of `cargo xtask verify --help`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask reference --model DIR --out ref --prompt 'The capital of France is'
  cargo xtask verify --model DIR --reference ref/prompt1/reference.npz
  cargo xtask verify --model DIR --reference FILE.npz --backend all --html report.html
  cargo xtask verify --model DIR --reference FILE.npz --observed mine.npz --strict
  cargo xtask verify --model DIR --reference FILE.npz --observed mine.npz --atol 1e-4 --rtol 1e-3
  cargo xtask verify --model DIR --adapter LORA --reference FILE.npz
  cargo xtask verify --model DIR --reference FILE.npz --layers 3..7 --mode isolated
  cargo xtask verify --model DIR --reference FILE.npz --backend wgpu --variants
  cargo xtask verify --model DIR --backend all

--observed takes activations of any framework under the reference's keys, any subset of
embedding_output, layer_00_output .., final_norm_output, logits, step_logits, generated_ids, and inside a layer
layer_00.input_layernorm, layer_00.self_attn.q_proj (k_proj, v_proj, q_norm, k_norm, q_rope, k_rope,
context, o_proj), layer_00.post_attention_layernorm, layer_00.mlp. Nothing is built for it: qwen3-verify
(`cargo install --path crates/qwen3-verify`) is the same as a program of its own.";

/// Arguments of `cargo xtask verify`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    shared: VerifyArgs,
    /// Run wgpu with fusion and autotune, and again without each, and name the switch under which a
    /// failure goes away. Compiles Burn three times: 20 minutes on two idle cores.
    #[arg(long)]
    variants: bool,
}

/// Builds and runs; returns the runner's exit code.
///
/// # Errors
/// When something is missing before the build, or the build fails.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let model = named::checkpoint(&workspace, &args.shared.model)?;
    let shared = &VerifyArgs { model, ..args.shared.clone() };
    if let Some(folder) = &shared.adapter {
        ensure!(
            folder.join("adapter_config.json").is_file(),
            "{}: no adapter is there (no adapter_config.json)",
            folder.display()
        );
    }
    for path in [&shared.reference, &shared.observed].into_iter().flatten() {
        ensure!(path.is_file() || path.is_dir(), "there is no file or folder {}", path.display());
    }
    launch::check_outputs([("--json", &shared.json), ("--junit", &shared.junit), ("--html", &shared.html)])?;

    // Somebody else's activations need no backend, and so no build.
    if shared.observed.is_some() {
        return qwen3_verify::verify_observed(shared);
    }
    let asked = backends(&shared.backend);
    ensure!(!args.variants || asked.contains(&Backend::Wgpu), "--variants is about wgpu: add --backend wgpu");
    let set_up = SetUp::of(&workspace.root, &asked, false);
    let built = set_up.available(&asked);
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
    let mut words = vec!["verify".into()];
    words.extend(shared.words());
    words.extend(launch::unavailable(&set_up));
    for (label, program) in variants {
        let mut word = OsString::from(format!("{label}="));
        word.push(program);
        words.extend(["--variant".into(), word]);
    }
    launch::start(&runner, words)
}
