//! What is the user's to mend and what is not: exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anyhow::{Error, Result};

/// Exit code of what failed for no fault of the input's.
const FAILED: u8 = 1;
/// Exit code of bad input; clap uses it for usage.
const BAD_INPUT: u8 = 2;

/// Marks an error as one of the input's.
#[derive(Debug)]
struct BadInput(Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for BadInput {}

/// Says of an error that the input is to blame.
pub trait Blame<T> {
    /// The same, ending in exit code 2.
    ///
    /// # Errors
    /// The one there was.
    fn bad_input(self) -> Result<T>;
}

impl<T, E: Into<Error>> Blame<T> for Result<T, E> {
    fn bad_input(self) -> Result<T> {
        self.map_err(|error| Error::new(BadInput(error.into())))
    }
}

/// An error of the input's with this text.
pub fn bad_input(text: impl Into<String>) -> Error {
    Error::new(BadInput(Error::msg(text.into())))
}

/// Prints the error on one line; its exit code. A reader that went away is no error.
pub fn report(error: &Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    // Some libraries say the cause in their own text and again as their source.
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    eprintln!("error: {}", text.trim_end());
    match error.chain().any(|cause| cause.is::<BadInput>()) {
        true => ExitCode::from(BAD_INPUT),
        false => ExitCode::from(FAILED),
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_survives_context() {
        let blamed = Err::<(), _>(Error::msg("no such file")).bad_input();
        let error = anyhow::Context::context(blamed, "opening").unwrap_err();
        assert!(error.chain().any(|cause| cause.is::<BadInput>()));
        assert_eq!(error.chain().nth(1).unwrap().to_string(), "no such file");
    }
}
