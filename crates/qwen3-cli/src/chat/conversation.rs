//! A conversation with a model.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;

use anyhow::{Result, ensure};
use qwen3_command::{OutputFile, line};
use qwen3_model::Session;
use qwen3_text::{Event, FinishReason, GenerateOptions, Generation, Message, Tokenizer};
use serde_json::{Value, json};

use super::silent::Silent;
use crate::failure::note;
use crate::generate::{Spoken, follow, say, shown};
use crate::interrupt::Interrupt;
use crate::renderer::{Renderer, Talk};

const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// A conversation and what the session has read of it.
pub struct Chat<'a> {
    /// What makes text of tokens.
    pub tokenizer: &'a Tokenizer,
    /// The checkpoint's template.
    pub renderer: Renderer,
    /// How answers are made.
    pub options: GenerateOptions,
    /// What the model is told before the first message.
    pub system: Option<String>,
    /// Qwen3's switch.
    pub enable_thinking: Option<bool>,
    /// The messages so far, the system's not among them.
    pub messages: Vec<Message>,
    /// Always `Some` between answers.
    pub session: Option<Session>,
    /// The tokens in the session.
    pub read: Vec<u32>,
}

impl Chat<'_> {
    /// Forgets the last answer and its question, which it gives; `None` when there is none.
    pub fn take_back(&mut self) -> Option<String> {
        self.messages.pop()?;
        self.messages.pop()?.content().map(String::from)
    }

    /// Writes the messages to a file, as `qwen3 generate --messages` reads them; gives their number.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, file: &Path) -> Result<usize> {
        let messages = self.json();
        let text = serde_json::to_string_pretty(&messages)? + "\n";
        OutputFile::prepare("/save", file, [])?.write(&text)?;
        Ok(messages.len())
    }

    /// All messages, as templates have them.
    fn json(&self) -> Vec<Value> {
        let system = self.system.iter().map(Message::system);
        let messages = system.chain(self.messages.iter().cloned());
        messages.map(|it| json!({ "role": it.role(), "content": it.content() })).collect()
    }

    /// Answers one message; when that cannot be done, says why and forgets the message. What is typed on a terminal
    /// meanwhile is not shown before the answer is.
    ///
    /// # Errors
    /// When the model fails, or standard output.
    pub fn answer(&mut self, text: &str, interrupt: &Interrupt) -> Result<()> {
        let silent = Silent::input();
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
        drop(silent);
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
        if spoken.reason == FinishReason::Length && prompt.len() + spoken.ids.len() >= session.capacity() {
            note(&format!(
                "the answer is cut: the conversation is full, with {} tokens; /clear begins again, --context gives it \
                 more",
                session.capacity()
            ));
        }
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
        let talk = Talk {
            messages: json!(self.json()).to_string(),
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
