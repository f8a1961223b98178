//! `qwen3 render`: messages to a prompt.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result};
use qwen3_text::{ChatTemplate, Conversation, RenderOptions};

use crate::failure::Blame;
use crate::files::{ModelArg, Need};

/// Arguments of `qwen3 render`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// JSON: a list of messages, or an object with `messages` and `tools`
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// JSON: a list of tools
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Ask for an answer without thinking (enable_thinking = false)
    #[arg(long)]
    no_thinking: bool,
    /// End with the beginning of the assistant's turn
    #[arg(long)]
    add_generation_prompt: bool,
}

/// Renders and prints the text as it is, with no line end added.
pub fn run(args: &Args) -> Result<()> {
    let files = args.model.files(Need::Texts)?;
    let template = ChatTemplate::open(&files.texts).bad_input()?;
    let conversation = Conversation::open(&args.messages).bad_input()?;
    let tools = match &args.tools {
        Some(file) => Some(Conversation::open_tools(file).bad_input()?),
        None => conversation.tools,
    };
    let options = RenderOptions {
        tools,
        enable_thinking: args.no_thinking.then_some(false),
        add_generation_prompt: args.add_generation_prompt,
        ..RenderOptions::default()
    };
    let text = template
        .render(&conversation.messages, &options)
        .with_context(|| args.messages.display().to_string())
        .bad_input()?;
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
