//! What is said to the chat itself, and not to the model.

use std::path::Path;

/// What `/help` prints.
pub const HELP: &str = "\
/clear        begin again
/regen        answer the last message once more
/save FILE    write the conversation as JSON, which `qwen3 generate --messages` reads
/system TEXT  tell the model this before the first message; without TEXT, print what it is told
/help         print this
/exit         leave (Ctrl-D does too)
Ctrl-C        end the answer that is being written; clear the line; on an empty line, twice, leave

Lines that are pasted, or typed while an answer is written, are one message. One that begins with a slash and a word
has a space before it.";

const SAVE: &str = "/save FILE";

/// A line that begins with a slash and a word.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Forget all messages.
    Clear,
    /// Leave.
    Exit,
    /// Print what there is.
    Help,
    /// Answer the last message once more.
    Regenerate,
    /// Write the conversation to this file.
    Save(&'a Path),
    /// Set the system message, or print it.
    System(Option<&'a str>),
    /// A command without what it needs, and how it is used.
    Unfinished(&'static str),
    /// No command that there is.
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    /// The command that the line is, if it is one: a path is a message, and so is what has a space before it.
    pub fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim_end();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = word.strip_prefix('/')?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            return None;
        }
        let rest = rest.trim();
        Some(match (name, rest) {
            ("clear", "") => Self::Clear,
            ("exit", "") => Self::Exit,
            ("help", "") => Self::Help,
            ("regen", "") => Self::Regenerate,
            ("save", "") => Self::Unfinished(SAVE),
            ("save", file) => Self::Save(Path::new(file)),
            ("system", "") => Self::System(None),
            ("system", text) => Self::System(Some(text)),
            _ => Self::Unknown(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_and_a_word_are_a_command() {
        for (line, command) in [
            ("/clear\n", Command::Clear),
            ("/exit ", Command::Exit),
            ("/save a b.json", Command::Save(Path::new("a b.json"))),
            ("/save", Command::Unfinished(SAVE)),
            ("/system", Command::System(None)),
            ("/system  Be brief.", Command::System(Some("Be brief."))),
            ("/clear it", Command::Unknown("/clear it")),
            ("/bye", Command::Unknown("/bye")),
        ] {
            assert_eq!(Command::parse(line), Some(command), "{line}");
        }
        for line in ["hello", " /clear", "/usr/bin", "/", "/ a", "/1", "", "a /clear"] {
            assert_eq!(Command::parse(line), None, "{line}");
        }
    }
}
