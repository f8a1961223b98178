//! Errors as people read them.

use std::io::{self, ErrorKind};

use anyhow::{Error, Result};

/// The error and its causes, those left out that the text before them has said: some libraries put the
/// cause into their own text.
pub fn line(error: &Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line += ": ";
            line += &cause;
        }
    }
    line
}

/// That a reader has seen enough is no error.
///
/// # Errors
/// Any other.
pub fn unless_closed(result: Result<()>) -> Result<()> {
    let closed = |error: &Error| {
        let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
        io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if closed(&error) => Ok(()),
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
    fn a_closed_pipe_is_no_error() {
        let error = |kind: ErrorKind| Err(Error::new(io::Error::from(kind)).context("printing"));
        assert!(unless_closed(error(ErrorKind::BrokenPipe)).is_ok());
        assert!(unless_closed(error(ErrorKind::StorageFull)).is_err());
    }
}
