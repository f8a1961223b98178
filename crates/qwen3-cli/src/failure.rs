//! What is the user's to mend and what is not: exit codes.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Error, Result};
use qwen3_command::{is_closed_pipe, line};

/// Exit code of what failed for no fault of the input's.
pub const FAILED: u8 = 1;
/// Exit code of bad input; clap uses it for usage.
const BAD_INPUT: u8 = 2;
/// Exit code of a process that measures what is not to be had here.
const ABSENT: u8 = 3;

/// Marks an error as one of the input's.
#[derive(Debug)]
struct BadInput(Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&self.0))
    }
}

impl std::error::Error for BadInput {}

/// Marks an error as one of a backend or dtype that is not to be had here.
#[derive(Debug)]
struct Absent(Error);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&self.0))
    }
}

impl std::error::Error for Absent {}

/// Says of an error what is to blame.
pub trait Blame<T> {
    /// The same, ending in exit code 3.
    ///
    /// # Errors
    /// The one there was.
    fn absent(self) -> Result<T>;

    /// The same, ending in exit code 2.
    ///
    /// # Errors
    /// The one there was.
    fn bad_input(self) -> Result<T>;
}

impl<T, E: Into<Error>> Blame<T> for Result<T, E> {
    fn absent(self) -> Result<T> {
        self.map_err(|error| Error::new(Absent(error.into())))
    }

    fn bad_input(self) -> Result<T> {
        self.map_err(|error| Error::new(BadInput(error.into())))
    }
}

/// An error of the input's with this text.
pub fn bad_input(text: impl Into<String>) -> Error {
    Error::new(BadInput(Error::msg(text.into())))
}

/// Prints the error; its exit code. A reader that went away is no error.
pub fn report(error: &Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    note(&format!("error: {}", line(error)));
    ExitCode::from(code(error))
}

fn code(error: &Error) -> u8 {
    let code = |cause: &(dyn std::error::Error + 'static)| {
        let bad = cause.is::<BadInput>().then_some(BAD_INPUT);
        bad.or(cause.is::<Absent>().then_some(ABSENT))
    };
    error.chain().find_map(code).unwrap_or(FAILED)
}

/// Prints a line on standard error, whether anybody reads it or not.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A device of another process whose loss made this one panic.
fn lost() -> Option<String> {
    #[cfg(feature = "remote")]
    return crate::lost::awaited();
    #[cfg(not(feature = "remote"))]
    None
}

/// Runs the command with every panic turned into an error: a library's on input that it did not expect.
///
/// # Errors
/// Those of `run`.
pub fn without_panics(run: impl FnOnce() -> Result<()>) -> Result<()> {
    static LAST: Mutex<String> = Mutex::new(String::new());
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST.lock() {
            *last = info.to_string();
        }
    }));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let text = LAST.lock().map(|last| last.clone());
        let internal = || Error::msg(format!("internal error: {}", text.unwrap_or_default()));
        Err(lost().map_or_else(internal, Error::msg))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_survives_context() {
        let blamed = Err::<(), _>(Error::msg("no such file")).bad_input();
        let error = anyhow::Context::context(blamed, "opening").unwrap_err();
        assert_eq!(code(&error), BAD_INPUT);
        assert_eq!(error.chain().nth(1).unwrap().to_string(), "no such file");
    }

    #[test]
    fn what_is_not_to_be_had_is_no_bad_input() {
        let absent = Err::<(), _>(bad_input("flex does not compute in f16")).absent();
        assert_eq!((code(&absent.unwrap_err()), code(&Error::msg("else"))), (ABSENT, FAILED));
    }

    #[test]
    fn a_cause_is_said_once() {
        let io = io::Error::other("disk full");
        let text = format!("a.json: {io}");
        let error = Error::new(io).context(text);
        assert_eq!(line(&error), "a.json: disk full");
        let error = Err::<(), _>(error).bad_input().unwrap_err();
        assert_eq!(line(&error.context("reading")), "reading: a.json: disk full");
    }

    #[test]
    fn a_panic_is_an_error() {
        let error = without_panics(|| panic!("out of reach")).unwrap_err();
        assert!(error.to_string().contains("out of reach"));
    }
}
