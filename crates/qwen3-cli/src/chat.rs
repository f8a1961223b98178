//! `qwen3 chat`: a conversation.

mod command;
mod conversation;
mod history;
mod input;
#[cfg(unix)]
mod paste;
mod seen;
mod silent;
mod terminal;

use anyhow::Result;
use qwen3_command::{line, printable};
use qwen3_model::{Extent, Session, SessionOptions};

use self::command::Command;
use self::conversation::Chat;
use self::input::Input;
use self::silent::Silent;
use crate::adapter::AdapterArg;
use crate::failure::note;
use crate::files::{ModelArg, Need};
use crate::interrupt::Interrupt;
use crate::model::Texts;
use crate::place::PlaceArgs;
use crate::renderer::Renderer;
use crate::sampling::SamplingArgs;

/// Arguments of `qwen3 chat`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    adapter: AdapterArg,
    /// What the model is told before the first message
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Ask for answers without thinking
    #[arg(long)]
    no_thinking: bool,
    /// Tokens that the conversation may have, if the model has as many positions
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Reads messages until the input ends, and answers each.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let silent = Silent::input();
    // What is quick to check goes first, so that a mistake does not wait for the weights.
    let (plan, place) = (args.place.read()?, args.place.name()?);
    let files = args.model.files(Need::Weights)?;
    let adapter = args.adapter.open(&files)?;
    let texts = Texts::open(&args.model.model, &files)?;
    let renderer = Renderer::open(&files.texts, false)?;
    let mut options = args.sampling.options(&texts)?;
    if args.sampling.any_length(&texts) {
        options.max_new_tokens = usize::MAX;
    }
    let model = plan.open(&files.weights.config()?, Extent::Whole, options.chunk_size)?.load(&files)?;
    let model = adapter.on(model)?;
    drop(files);
    let session = SessionOptions {
        batch: 1,
        capacity: (args.context as usize).min(model.config.max_tokens()),
        chunk_size: options.chunk_size,
    };
    let mut chat = Chat {
        tokenizer: &texts.tokenizer,
        renderer,
        options,
        system: args.system.clone(),
        enable_thinking: args.no_thinking.then_some(false),
        messages: Vec::new(),
        session: Some(Session::new(&model, session)?),
        read: Vec::new(),
    };

    let mut input = Input::open()?;
    if input.is_terminal() {
        let sampling = &chat.options.sampling;
        let seed = if sampling.greedy { "greedy".into() } else { format!("seed {}", sampling.seed) };
        let (name, context) = (printable(&args.model.model), session.capacity);
        note(&format!("{name} on {place}, {context} tokens of context, {seed}"));
        note("/exit or Ctrl-D to leave, /help for more");
    }
    drop(silent);
    while let Some(line) = input.next()? {
        match Command::parse(&line) {
            Some(Command::Exit) => break,
            Some(command) => obey(&mut chat, command, &interrupt)?,
            None if line.trim().is_empty() => {}
            None => chat.answer(line.trim(), &interrupt)?,
        }
    }
    Ok(())
}

/// Does what a command says, and says so.
fn obey(chat: &mut Chat, command: Command, interrupt: &Interrupt) -> Result<()> {
    match command {
        Command::Exit => {}
        Command::Help => note(command::HELP),
        Command::Clear => {
            chat.messages.clear();
            note("the conversation begins again");
        }
        Command::Regenerate => match chat.take_back() {
            Some(text) => chat.answer(&text, interrupt)?,
            None => note("there is no answer yet"),
        },
        Command::Save(file) => match chat.save(file) {
            Ok(messages) => {
                note(&format!("{messages} messages saved to {}", printable(&file.display().to_string())));
            }
            Err(error) => note(&line(&error)),
        },
        Command::System(None) => match &chat.system {
            Some(text) => note(&printable(text)),
            None => note("there is no system message"),
        },
        Command::System(Some(text)) => {
            chat.system = Some(text.into());
            note("the system message is set, from the first message on");
        }
        Command::Unfinished(usage) => note(&format!("{usage} is how it is used")),
        Command::Unknown(word) => note(&format!(
            "there is no {}: /help lists what there is, and a message that begins so has a space before it",
            printable(word)
        )),
    }
    Ok(())
}
