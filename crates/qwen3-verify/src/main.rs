//! Says where, and why, activations of a Qwen3 checkpoint differ from a reference: `cargo xtask verify --observed` as a
//! program of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use qwen3_command::VerifyArgs;

const NOTES: &str = "\
Activations are safetensors, npz, npy (one file or a folder), files of torch.save, or what Transformers'
model_addition_debugger_context wrote, under the reference's keys, any subset: embedding_output, layer_00_output ..,
final_norm_output, logits, step_logits, generated_ids, and inside a layer layer_00.input_layernorm,
layer_00.self_attn.q_proj (k_proj, v_proj, q_norm, k_norm, q_rope, k_rope, context, o_proj),
layer_00.post_attention_layernorm, layer_00.mlp.

Examples:
  qwen3-verify --model DIR --reference ref/prompt1/reference.npz --observed mine.npz
  qwen3-verify --model DIR --reference FILE.npz --observed mine.npz --strict --html report.html

Exit codes: 0 all is within its limits; 1 something is not; 2 usage or bad input.";

/// Says where, and why, activations of a Qwen3 checkpoint differ from a reference.
#[derive(Parser)]
#[command(name = "qwen3-verify", version, after_help = NOTES)]
// What runs backends is accepted, so that a command line of `cargo xtask verify` is one of this program.
#[command(mut_arg("observed", |arg| arg.required(true)))]
#[command(mut_arg("backend", |arg| arg.hide(true)), mut_arg("kernels", |arg| arg.hide(true)))]
#[command(mut_arg("mode", |arg| arg.hide(true)), mut_arg("ids", |arg| arg.hide(true)))]
struct Cli {
    #[command(flatten)]
    args: VerifyArgs,
}

fn main() -> ExitCode {
    let Cli { args } = qwen3_command::arguments();
    let ready = qwen3_command::on_signal(|_| false).context("signals cannot be handled");
    match ready.and_then(|()| qwen3_verify::verify_observed(&args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", qwen3_command::line(&error));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
