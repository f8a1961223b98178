//! `qwen3 chat`: a conversation.

use std::io::{IsTerminal, Write, stdin, stdout};

use anyhow::Result;
use qwen3_model::{Qwen3, Session, SessionOptions};
use qwen3_text::{ChatTemplate, Event, GenerateOptions, Generation, Message, RenderOptions};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::device::DeviceArgs;
use crate::failure::Blame;
use crate::files::ModelArg;
use crate::generate::{Spoken, follow, say};
use crate::interrupt::Interrupt;
use crate::model::Loaded;
use crate::sampling::SamplingArgs;

const HELP: &str = "\
/clear    begin again
/exit     leave (Ctrl-D does too)
Ctrl-C    end the answer that is being written";

const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Arguments of `qwen3 chat`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// What the model is told before the first message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Ask for answers without thinking
    #[arg(long)]
    no_thinking: bool,
    /// Tokens that the conversation may have, if the model has as many positions
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Reads messages until the input ends, and answers each.
pub fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let loaded = Loaded::new(&args.model, &args.device)?;
    let template = loaded.template()?;
    let options = args.sampling.options(&loaded)?;
    let mut chat = Chat {
        model: &loaded.model,
        loaded: &loaded,
        template,
        options,
        capacity: (args.context as usize).min(loaded.model.config.max_position_embeddings),
        system: args.system.as_deref(),
        enable_thinking: args.no_thinking.then_some(false),
        messages: Vec::new(),
        session: None,
        read: Vec::new(),
    };
    chat.clear();

    let mut lines = Lines::new()?;
    if lines.is_terminal() {
        eprintln!("/exit or Ctrl-D to leave, /help for more");
    }
    while let Some(line) = lines.next()? {
        match line.trim() {
            "" => {}
            "/exit" => break,
            "/help" => eprintln!("{HELP}"),
            "/clear" => chat.clear(),
            text => chat.answer(text, &interrupt)?,
        }
    }
    Ok(())
}

/// A conversation and what the session has read of it.
struct Chat<'a> {
    model: &'a Qwen3,
    loaded: &'a Loaded,
    template: ChatTemplate,
    options: GenerateOptions,
    capacity: usize,
    system: Option<&'a str>,
    enable_thinking: Option<bool>,
    messages: Vec<Message>,
    session: Option<Session>,
    /// The tokens in the session.
    read: Vec<u32>,
}

impl Chat<'_> {
    fn clear(&mut self) {
        self.messages = self.system.into_iter().map(Message::system).collect();
    }

    /// Answers one message; when that cannot be done, says why and forgets the message.
    fn answer(&mut self, text: &str, interrupt: &Interrupt) -> Result<()> {
        self.messages.push(Message::user(text));
        let render = RenderOptions {
            enable_thinking: self.enable_thinking,
            add_generation_prompt: true,
            ..RenderOptions::default()
        };
        let prompt = self.template.render(&self.messages, &render).bad_input()?;
        let prompt = self.loaded.tokenizer.encode(&prompt).bad_input()?;

        // What the session has read already, up to where this conversation differs: the template takes
        // the thoughts out of earlier answers. The last token is read again, for its logits.
        let same = self.read.iter().zip(&prompt).take_while(|(a, b)| a == b);
        let same = same.count().min(prompt.len().saturating_sub(1));
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::new(
                self.model,
                SessionOptions {
                    batch: 1,
                    capacity: self.capacity,
                    chunk_size: self.options.chunk_size,
                },
            )?,
        };
        session.truncate(same);
        self.read.truncate(same);
        if prompt.len() >= self.capacity {
            eprintln!(
                "the conversation has {} tokens and there is room for {}: /clear begins again, \
                 --context gives it more",
                prompt.len(),
                self.capacity
            );
            self.session = Some(session);
            self.messages.pop();
            return Ok(());
        }

        let generation = Generation::in_session(
            session,
            &self.loaded.tokenizer,
            &prompt[..same],
            &[&prompt[same..]],
            &self.options,
        )
        .bad_input()?;
        let (spoken, session) = interrupt.generating(|cancel| {
            let mut generation = generation.with_cancel(cancel);
            let spoken = speak(&mut generation);
            (spoken, generation.into_session())
        });
        let spoken = spoken?;
        self.read = [&prompt[..], &spoken.ids].concat();
        self.read.truncate(session.used());
        self.session = Some(session);
        let speed = spoken.speed(prompt.len() - same);
        eprintln!(
            "{}{} tokens read at {:.1} tok/s, {} generated at {:.1} tok/s ({}){}",
            if colour() { DIM } else { "" },
            prompt.len() - same,
            speed.prefill,
            spoken.ids.len(),
            speed.decode,
            spoken.reason.name(),
            if colour() { PLAIN } else { "" },
        );
        self.messages.push(Message::assistant(spoken.text));
        Ok(())
    }
}

/// Writes an answer as it comes, thoughts dimmed on a terminal.
fn speak(generation: &mut Generation) -> Result<Spoken> {
    let mut out = stdout().lock();
    let dim = colour() && out.is_terminal();
    let spoken = follow(generation, |event| match event {
        Event::Text { text, .. } => say(&mut out, text),
        Event::ThinkingStarted { .. } if dim => say(&mut out, DIM),
        Event::ThinkingEnded { .. } if dim => say(&mut out, PLAIN),
        _ => Ok(()),
    });
    if dim {
        say(&mut out, PLAIN)?;
    }
    writeln!(out)?;
    out.flush()?;
    spoken
}

fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}

/// Lines of the input: edited on a terminal, as they are otherwise.
enum Lines {
    Terminal(Box<DefaultEditor>),
    Other,
}

impl Lines {
    fn new() -> Result<Self> {
        Ok(match stdin().is_terminal() && stdout().is_terminal() {
            true => Self::Terminal(Box::new(DefaultEditor::new()?)),
            false => Self::Other,
        })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line; nothing at the end of the input, and at Ctrl-C.
    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line)?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Other => {
                let mut line = String::new();
                match stdin().read_line(&mut line).bad_input()? {
                    0 => Ok(None),
                    _ => Ok(Some(line)),
                }
            }
        }
    }
}
