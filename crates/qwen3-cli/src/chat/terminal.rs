//! Lines that are edited on a terminal.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Result;
use qwen3_command::printable;
use rustyline::Config;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use super::command::Command;
use super::history;
use super::seen::Seen;
use crate::failure::note;

/// How many lines are kept from one run to the next.
const KEPT: usize = 1000;
const PROMPT: &str = "> ";

/// The editor of rustyline.
pub type Editor = rustyline::Editor<Seen, FileHistory>;

/// A terminal, with the lines of earlier runs.
pub struct Terminal {
    editor: Editor,
    /// Where lines are kept.
    history: Option<PathBuf>,
    /// What was pasted behind a message; `None` is the end of the input.
    waiting: VecDeque<Option<String>>,
}

/// What came of lines that were pasted.
#[derive(Default)]
pub struct Pasted {
    /// The text of a message.
    pub text: String,
    /// Is its last line without an end? Then it may go on.
    pub unfinished: bool,
    /// A command, or the end of the input (`None`), that came behind it.
    pub then: Option<Option<String>>,
}

impl Terminal {
    /// Standard input and output.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open() -> Result<Self> {
        let config = Config::builder().max_history_size(KEPT)?.build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Seen::default()));
        let history = history::file();
        let history = history.map_err(|error| {
            note(&format!("note: lines are not kept: {}", printable(&error.to_string())));
        });
        let history = history.ok();
        if let Some(file) = &history {
            // The first run has none.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history, waiting: VecDeque::new() })
    }

    /// The next message or command; `None` at the end of the input, and when Ctrl-C is pressed twice on an empty line.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn next(&mut self) -> Result<Option<String>> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Ok(waiting.map(|line| self.kept(line)));
        }
        let mut begun = String::new();
        let mut about_to_leave = false;
        loop {
            self.seen().begin(&begun);
            let line = match self.editor.readline_with_initial(PROMPT, (&begun, "")) {
                Ok(line) => line,
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) if !self.seen().line().is_empty() => {
                    begun.clear();
                    about_to_leave = false;
                    continue;
                }
                Err(ReadlineError::Interrupted) if about_to_leave => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    note("Ctrl-C once more leaves");
                    about_to_leave = true;
                    continue;
                }
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    note("note: a byte that is not UTF-8 is replaced by U+FFFD");
                    begun = self.seen().line() + "\u{fffd}";
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            about_to_leave = false;
            let pasted = self.pasted(line)?;
            self.waiting.extend(pasted.then);
            if pasted.unfinished {
                begun = pasted.text;
                continue;
            }
            return Ok(Some(self.kept(pasted.text)));
        }
    }

    fn seen(&self) -> &Seen {
        self.editor.helper().expect("set when it was opened")
    }

    /// The line with those that wait behind it, if it was not typed; a command stands alone.
    #[cfg(unix)]
    fn pasted(&mut self, line: String) -> Result<Pasted> {
        if Command::parse(&line).is_some() || !self.seen().is_quick() {
            return Ok(Pasted { text: line, ..Pasted::default() });
        }
        super::paste::rest(&mut self.editor, line)
    }

    #[cfg(not(unix))]
    fn pasted(&mut self, text: String) -> Result<Pasted> {
        Ok(Pasted { text, ..Pasted::default() })
    }

    /// The text, kept for the arrow keys and for later runs.
    fn kept(&mut self, text: String) -> String {
        let added = self.editor.add_history_entry(&text);
        if let (Ok(true), Some(file)) = (added, &self.history)
            && let Err(error) = self.editor.append_history(file)
        {
            note(&format!("note: lines are not kept: {}", printable(&error.to_string())));
            self.history = None;
        }
        text
    }
}
