//! `qwen3`: download, import, export, inspect, sizes, tokenize, render, generate, chat, embed, rerank, bench and
//! serve-device.

mod adapter;
mod bench;
mod chat;
mod device;
mod download;
mod embed;
mod export;
mod failure;
mod files;
mod foreign;
mod generate;
mod hub;
mod import;
mod inspect;
mod interrupt;
mod lines;
#[cfg(feature = "remote")]
mod lost;
mod model;
mod place;
mod progress;
mod prompt;
#[cfg(feature = "remote")]
mod remote;
mod render;
mod renderer;
mod rerank;
mod sampling;
#[cfg(feature = "remote")]
mod serve_device;
mod sizes;
mod stored;
mod tokenize;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const NOTES: &str = "\
MODEL is a folder in Hugging Face's layout (config.json, safetensors, tokenizer.json), a record that
`qwen3 import` wrote, or a name on the Hugging Face hub, which is downloaded once.

Exit codes: 0 done; 1 failed; 2 usage or bad input; 130, 143, 129 ended by SIGINT, SIGTERM, SIGHUP.";

/// Qwen3 on Burn, from the command line
#[derive(Parser)]
#[command(name = "qwen3", version, after_help = NOTES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a model from the Hugging Face hub, and print its folder
    Download(download::Args),
    /// Turn a checkpoint into one Burn record, with its config and tokenizer inside
    Import(import::Args),
    /// Turn a record or a checkpoint, with an adapter merged into it, into a checkpoint in Hugging Face's layout
    Export(export::Args),
    /// Print what a checkpoint or record holds, and the memory it needs
    Inspect(inspect::Args),
    /// Print how large the official models are, as a table in Markdown
    Sizes(sizes::Args),
    /// Turn text into token ids, or back
    Tokenize(tokenize::Args),
    /// Render messages with the checkpoint's chat template
    Render(render::Args),
    /// Continue a prompt, or answer a conversation
    Generate(generate::Args),
    /// Talk with a model
    Chat(chat::Args),
    /// Turn texts into vectors, whose dot products say how alike they are
    Embed(embed::Args),
    /// Score documents by how well they answer a query
    Rerank(rerank::Args),
    /// Measure loading, reading prompts and decoding, beside what this machine can do
    Bench(bench::Args),
    /// Let other processes and machines compute on this machine's device
    #[cfg(feature = "remote")]
    ServeDevice(serve_device::Args),
    /// The process in which a template is rendered
    #[command(hide = true)]
    RenderingProcess(renderer::ProcessArgs),
}

fn main() -> ExitCode {
    let command = qwen3_command::arguments::<Cli>().command;
    let result = failure::without_panics(|| {
        interrupt::Interrupt::install()?;
        match command {
            Command::Download(args) => download::run(&args),
            Command::Import(args) => import::run(&args),
            Command::Export(args) => export::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Sizes(args) => sizes::run(&args),
            Command::Tokenize(args) => tokenize::run(&args),
            Command::Render(args) => render::run(&args),
            Command::Generate(args) => generate::run(&args),
            Command::Chat(args) => chat::run(&args),
            Command::Embed(args) => embed::run(&args),
            Command::Rerank(args) => rerank::run(&args),
            Command::Bench(args) => bench::run(&args),
            #[cfg(feature = "remote")]
            Command::ServeDevice(args) => serve_device::run(&args),
            Command::RenderingProcess(args) => renderer::serve(&args),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
