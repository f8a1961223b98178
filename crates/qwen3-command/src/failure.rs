//! Errors as people read them.

use std::io::{self, ErrorKind};

use anyhow::{Error, Result};
use qwen3_trace::printable;

/// The error and its causes on one line, those left out that the text before them has said: some libraries put
/// the cause into their own text. What a file brought into it is [`printable`].
pub fn line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| joined(&cause.to_string())) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line += ": ";
            line += &cause;
        }
    }
    printable(&line).into_owned()
}

/// The lines of a text, one behind the other.
fn joined(text: &str) -> String {
    let lines = text.split('\n').map(str::trim_end).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Is it that whoever read the output has seen enough?
pub fn is_closed_pipe(error: &Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// That a reader has seen enough is no error.
///
/// # Errors
/// Any other.
pub fn unless_closed(result: Result<(), impl Into<Error>>) -> Result<()> {
    match result.map_err(Into::into) {
        Err(error) if is_closed_pipe(&error) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let io = io::Error::other("disk full");
        let text = format!("a.json: {io}");
        let error = Error::new(io).context(text).context("reading");
        assert_eq!(line(&error), "reading: a.json: disk full");
    }

    #[test]
    fn an_error_is_one_line_that_no_terminal_obeys() {
        let error = Error::msg("bad key `\u{1b}[2J`").context("a.json\n  line 3\r\n");
        assert_eq!(line(&error), "a.json   line 3: bad key `\\u{1b}[2J`");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let error = |kind: ErrorKind| Err(Error::new(io::Error::from(kind)).context("printing"));
        assert!(unless_closed(error(ErrorKind::BrokenPipe)).is_ok());
        assert!(unless_closed(error(ErrorKind::StorageFull)).is_err());
    }
}
