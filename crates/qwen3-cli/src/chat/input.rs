//! Messages from standard input: edited on a terminal, a line each otherwise.

use std::io::{BufRead, IsTerminal, stdin, stdout};

use anyhow::{Context, Result};

use super::terminal::Terminal;
use crate::failure::note;

/// Where lines come from.
pub enum Input {
    /// A terminal, where they are edited.
    Terminal(Box<Terminal>),
    /// A file or a pipe.
    Other,
}

impl Input {
    /// Standard input; a terminal only where the answers go to one, too.
    ///
    /// # Errors
    /// When the terminal cannot be used.
    pub fn open() -> Result<Self> {
        Ok(if stdin().is_terminal() && stdout().is_terminal() {
            Self::Terminal(Box::new(Terminal::open()?))
        } else {
            Self::Other
        })
    }

    /// Does somebody sit there?
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next message or command, what is not UTF-8 in it replaced; `None` when there are no more.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Terminal(terminal) => terminal.next(),
            Self::Other => next_line(&mut stdin().lock()),
        }
    }
}

fn next_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    if input.read_until(b'\n', &mut bytes).context("standard input cannot be read")? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8(bytes).unwrap_or_else(|error| {
        note("note: bytes that are not UTF-8 are replaced by U+FFFD");
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    });
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf_8_is_replaced() {
        let mut input = &b"caf\xe9\nb"[..];
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "caf\u{fffd}\n");
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "b");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
