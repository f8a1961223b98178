//! `qwen3 render`: messages to a prompt.

use std::fs::read_to_string;
use std::io::stdout;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_text::Conversation;

use crate::failure::Blame;
use crate::files::{ModelArg, Need};
use crate::generate::{say, shown};
use crate::renderer::{Renderer, Talk};

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

/// Renders and prints the text as it is, with no line end added; on a terminal, what that would obey is escaped.
pub fn run(args: &Args) -> Result<()> {
    let files = args.model.files(Need::Texts)?;
    let read = |file: &Path| read_to_string(file).with_context(|| file.display().to_string()).bad_input();
    // Read here already, for errors that name these files.
    let conversation = Conversation::open(&args.messages).bad_input()?;
    let tools = args.tools.as_deref().map(|file| Conversation::open_tools(file).bad_input()).transpose()?;
    let has_tools = tools.is_some() || conversation.tools.is_some();
    let talk = Talk {
        messages: read(&args.messages)?,
        tools: args.tools.as_deref().map(read).transpose()?,
        enable_thinking: args.no_thinking.then_some(false),
        add_generation_prompt: args.add_generation_prompt,
    };
    let mut renderer = Renderer::open(&files.texts, has_tools)?;
    let text = renderer.render(&talk).with_context(|| args.messages.display().to_string())?;
    say(&mut stdout().lock(), &shown(&text))
}
