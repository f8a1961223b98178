//! `qwen3 chat`: a conversation.

use std::io::{IsTerminal, Write, stdin, stdout};

use anyhow::{Result, ensure};
use qwen3_command::line;
use qwen3_model::{Extent, Session, SessionOptions};
use qwen3_text::{Event, GenerateOptions, Generation, Message, Tokenizer};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;

use crate::adapter::AdapterArg;
use crate::failure::{Blame, note};
use crate::files::{ModelArg, Need};
use crate::generate::{Spoken, follow, say, shown};
use crate::interrupt::Interrupt;
use crate::model::Texts;
use crate::place::PlaceArgs;
use crate::renderer::{Renderer, Talk};
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
    // What is quick to check goes first, so that a mistake does not wait for the weights.
    let plan = args.place.read()?;
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
        system: args.system.as_deref(),
        enable_thinking: args.no_thinking.then_some(false),
        messages: Vec::new(),
        session: Some(Session::new(&model, session)?),
        read: Vec::new(),
    };
    chat.clear();

    let mut lines = Lines::new()?;
    if lines.is_terminal() {
        note("/exit or Ctrl-D to leave, /help for more");
    }
    while let Some(line) = lines.next()? {
        match line.trim() {
            "" => {}
            "/exit" => break,
            "/help" => note(HELP),
            "/clear" => chat.clear(),
            text => chat.answer(text, &interrupt)?,
        }
    }
    Ok(())
}

/// A conversation and what the session has read of it.
struct Chat<'a> {
    tokenizer: &'a Tokenizer,
    renderer: Renderer,
    options: GenerateOptions,
    system: Option<&'a str>,
    enable_thinking: Option<bool>,
    messages: Vec<Message>,
    /// Always `Some` between answers.
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
        let prompt = match self.prompt() {
            Ok(prompt) => prompt,
            Err(problem) => {
                note(&line(&problem));
                self.messages.pop();
                return Ok(());
            }
        };
        // What the session has read already, up to where this conversation differs: the template takes
        // the thoughts out of earlier answers. The last token is read again, for its logits.
        let same = self.read.iter().zip(&prompt).take_while(|(a, b)| a == b);
        let same = same.count().min(prompt.len() - 1);
        let mut session = self.session.take().expect("a session between answers");
        let same = session.truncate(same);
        let generation = Generation::in_session(
            session,
            self.tokenizer,
            &prompt[..same],
            &[&prompt[same..]],
            &self.options,
        )?;
        let (spoken, session) = interrupt.generating(|cancel| {
            let mut generation = generation.with_cancel(cancel);
            let spoken = speak(&mut generation);
            (spoken, generation.into_session())
        });
        let spoken = spoken?;
        let tokens = session.used().min(prompt.len()) - same;
        let speed = spoken.speed(tokens);
        let (dim, plain) = if colour() { (DIM, PLAIN) } else { ("", "") };
        note(&format!(
            "{dim}{tokens} tokens read at {:.1} tok/s, {} generated at {:.1} tok/s ({}){plain}",
            speed.prefill,
            spoken.ids.len(),
            speed.decode,
            spoken.reason.name(),
        ));
        self.read = [&prompt[..], &spoken.ids].concat();
        self.read.truncate(session.used());
        self.session = Some(session);
        self.messages.push(Message::assistant(closed(&spoken.text)));
        // Another answer to the same question, even in a conversation that has begun again.
        self.options.sampling.seed = self.options.sampling.seed.wrapping_add(1);
        Ok(())
    }

    /// The conversation's tokens, if the session has room for them and one more.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let messages = self.messages.iter();
        let messages = messages.map(|it| json!({ "role": it.role(), "content": it.content() }));
        let talk = Talk {
            messages: json!(messages.collect::<Vec<_>>()).to_string(),
            tools: None,
            enable_thinking: self.enable_thinking,
            add_generation_prompt: true,
        };
        let prompt = self.renderer.render(&talk)?;
        let prompt = self.tokenizer.encode(&prompt)?;
        let session = self.session.as_ref().expect("a session between answers");
        let mut empty = session.clone();
        empty.truncate(0);
        let room = session.capacity();
        ensure!(
            prompt.len() < room,
            "the conversation has {} tokens and there is room for {room}: /clear begins again, \
             --context gives it more",
            prompt.len()
        );
        empty.begin(&[&prompt])?;
        Ok(prompt)
    }
}

/// The text without a thought that did not come to its end: the template knows only whole ones.
fn closed(text: &str) -> &str {
    match (text.find("<think>"), text.contains("</think>")) {
        (Some(start), false) => &text[..start],
        _ => text,
    }
}

/// Writes an answer as it comes, thoughts dimmed on a terminal.
fn speak(generation: &mut Generation) -> Result<Spoken> {
    let mut out = stdout().lock();
    let dim = colour() && out.is_terminal();
    let spoken = follow(generation, |event| match event {
        Event::Text { text, .. } => say(&mut out, &shown(text)),
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
        Ok(if stdin().is_terminal() && stdout().is_terminal() {
            Self::Terminal(Box::new(DefaultEditor::new()?))
        } else {
            Self::Other
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_without_an_end_are_left_out() {
        assert_eq!(closed("<think>\na\n</think>\n\nb"), "<think>\na\n</think>\n\nb");
        assert_eq!(closed("<think>\na"), "");
        assert_eq!(closed("b"), "b");
    }
}
