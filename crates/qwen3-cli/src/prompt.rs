//! What `qwen3 generate` is to continue: a text, a file, standard input, or a conversation.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_text::Conversation;
use qwen3_text::limits::FILE;

use crate::failure::{Blame, bad_input, note};
use crate::renderer::{Renderer, Talk};

/// What stands for standard input.
const STDIN: &str = "-";

/// Where the prompt comes from.
#[derive(clap::Args)]
#[group(id = "source", required = true, multiple = false)]
pub struct PromptArgs {
    /// The text to continue, as it is, with no chat template around it; `-` for standard input
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// The same from a file, or from standard input (`-`); one line end at the end of either is left out
    #[arg(long, visible_alias = "file", value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Answer a conversation, in the chat template: a JSON file (or `-`) with a list of {"role", "content"}, or
    /// with an object that has `messages` and may have `tools`
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
}

/// A prompt that has been read.
pub struct Prompt {
    /// What names it in errors: `--prompt`, or the file.
    pub source: String,
    text: Text,
    enable_thinking: Option<bool>,
}

enum Text {
    AsItIs(String),
    /// JSON, and whether there are tools in it.
    Messages(String, bool),
}

impl PromptArgs {
    /// Reads the prompt, whose answer is to come without thinking when `no_thinking` says so.
    ///
    /// # Errors
    /// When it cannot be read, is empty, not UTF-8, or no conversation.
    pub fn read(&self, no_thinking: bool) -> Result<Prompt> {
        let (source, text) = match (&self.prompt, &self.prompt_file, &self.messages) {
            (Some(text), ..) if text != STDIN => ("--prompt".to_string(), Text::AsItIs(text.clone())),
            (Some(_), ..) => as_it_is(Path::new(STDIN))?,
            (_, Some(file), _) => as_it_is(file)?,
            (.., Some(file)) => {
                let (source, json) = read(file)?;
                let conversation = Conversation::from_json(&json, &source).bad_input()?;
                (source, Text::Messages(json, conversation.tools.is_some()))
            }
            (None, None, None) => return Err(bad_input("no prompt")),
        };
        if matches!(&text, Text::AsItIs(text) if text.is_empty()) {
            return Err(bad_input(format!("{source} is empty")));
        }
        Ok(Prompt { source, text, enable_thinking: no_thinking.then_some(false) })
    }
}

impl Prompt {
    /// The text that the model reads; `texts` is the folder of the checkpoint's template.
    ///
    /// # Errors
    /// When there is no template, or it fails on the messages.
    pub fn text(self, texts: &Path) -> Result<String> {
        let (messages, tools) = match self.text {
            Text::AsItIs(text) => return Ok(text),
            Text::Messages(messages, tools) => (messages, tools),
        };
        let (enable_thinking, add_generation_prompt) = (self.enable_thinking, true);
        let talk = Talk { messages, tools: None, enable_thinking, add_generation_prompt };
        Renderer::open(texts, tools)?.render(&talk).with_context(|| self.source.clone())
    }
}

/// A file's text without the line end that editors and `echo` put at its end.
fn as_it_is(file: &Path) -> Result<(String, Text)> {
    let (source, mut text) = read(file)?;
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
    }
    Ok((source, Text::AsItIs(text)))
}

/// What a file, or standard input, is called and holds.
fn read(file: &Path) -> Result<(String, String)> {
    let mut bytes = Vec::new();
    let source = if file == Path::new(STDIN) {
        if stdin().is_terminal() {
            note("reading from the terminal; Ctrl-D on a line of its own ends it");
        }
        stdin().take(FILE + 1).read_to_end(&mut bytes).context("standard input cannot be read")?;
        "standard input".to_string()
    } else {
        let opened = File::open(file).and_then(|file| file.take(FILE + 1).read_to_end(&mut bytes));
        opened.with_context(|| file.display().to_string()).bad_input()?;
        file.display().to_string()
    };
    if bytes.len() as u64 > FILE {
        return Err(bad_input(format!("{source}: at most {FILE} bytes are read")));
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{source} is not UTF-8")).bad_input()?;
    Ok((source, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompt.txt");
        for (bytes, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a \r", "a \r")]
        {
            std::fs::write(&file, bytes).unwrap();
            let (_, text) = as_it_is(&file).unwrap();
            assert!(matches!(&text, Text::AsItIs(text) if text == expected), "{bytes:?}");
        }
    }
}
