//! `cargo xtask reference`: runs the Transformers oracle on a checkpoint.

use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::{check_output_folder, child};
use qwen3_trace::Precision;

use crate::fixtures::{oracle, oracle_with};
use crate::transformers::Folder;
use crate::workspace::{Workspace, exit_code, root};
use crate::{named, own_python};

/// The end of `cargo xtask reference --help`.
pub const NOTES: &str = "\
Writes DIR/promptN/reference.npz for each prompt: input_ids, embedding_output, layer_00_output ..,
final_norm_output, logits, generated_ids, rope_cos, rope_sin from a float64 run of Transformers, with the
noise floors of Transformers' own runs beside them. Without --prompt: three short prompts. Prompts are
tokenized with the checkpoint's tokenizer.json; without one, their bytes are the ids.

Needs the oracle's Python packages, which are installed once (see `cargo xtask fixtures --help`), or with
--python those of a Python that has Transformers and PyTorch already, whose versions are checked and told; and memory for
the model in float64: 8 bytes a parameter. Of a GGUF file the model is what its blocks stand for: the reference is right
for the quantised weights.

Examples:
  cargo xtask reference --model models/Qwen3-0.6B --out ref --prompt 'What is 2+2?'
  cargo xtask reference --model DIR --out ref --python .venv
  cargo xtask reference --model model-q4_k_m.gguf --out ref --prompt 'What is 2+2?'
  cargo xtask reference --model DIR --out ref --adapter LORA --prompt 'What is 2+2?'
  cargo xtask reference --model DIR --out ref --prompt-ids 1,2,3 --max-new-tokens 8 --taps";

/// Arguments of `cargo xtask reference`.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a directory in Hugging Face's layout, a GGUF file, or a name on the hub (Qwen/Qwen3-0.6B).
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// A LoRA adapter in PEFT's layout: PEFT runs the model with it, unmerged.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// With --adapter: PEFT merges it into the weights first.
    #[arg(long, requires = "adapter")]
    merged: bool,
    /// Where to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A prompt; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// A prompt as token ids, separated by commas; may be given several times.
    #[arg(long, value_name = "IDS")]
    prompt_ids: Vec<String>,
    /// Tokens to generate greedily.
    #[arg(long, value_name = "N", default_value_t = 20)]
    max_new_tokens: u32,
    /// Measure noise floors in this dtype only; in f32, f16 and bf16 when left out.
    #[arg(long, value_name = "DTYPE", value_parser = qwen3_command::dtype())]
    dtype: Option<Precision>,
    /// Run this Python with the packages that it has, instead of the oracle's own: a program, or the folder of a virtual
    /// environment.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Store what passes through each layer as well: projections, norms, RoPE, attention, MLP.
    #[arg(long)]
    taps: bool,
}

/// Runs the oracle; returns its exit code.
///
/// # Errors
/// When there is no checkpoint or the oracle cannot be installed.
pub fn run(args: &Args) -> Result<u8> {
    let model = named::checkpoint(&Workspace::find()?, &args.model)?;
    check_output_folder("--out", &args.out)?;
    let root = root();
    let mut oracle = match &args.python {
        Some(python) => {
            let python = own_python::checked(python, args.adapter.is_some())?;
            oracle_with(&python, &root, "reference")
        }
        None => oracle(&root, "reference")?,
    };
    let model = Folder::of(&model, &args.out)?;
    oracle.arg("--model-path").arg(&model.path);
    if let Some(adapter) = &args.adapter {
        oracle.arg("--adapter").arg(adapter);
    }
    if args.merged {
        oracle.arg("--merged");
    }
    oracle.arg("--output-dir").arg(&args.out);
    oracle.arg(format!("--max-new-tokens={}", args.max_new_tokens));
    for prompt in &args.prompt {
        oracle.arg(format!("--prompt={prompt}"));
    }
    for ids in &args.prompt_ids {
        oracle.arg(format!("--prompt-ids={ids}"));
    }
    if let Some(dtype) = args.dtype {
        oracle.args(["--dtype", dtype.name()]);
    }
    if args.taps {
        oracle.arg("--taps");
    }
    eprintln!("xtask: running the oracle (Transformers in float64)");
    let status = child::status(&mut oracle)?;
    Ok(exit_code("the oracle", status))
}
