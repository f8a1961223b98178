//! Reports on a terminal.

mod cause;
mod parity;
mod verify;

use std::io::{IsTerminal, stdout};

pub use parity::ParityText;
pub use verify::write_verify;

use crate::Status;

/// Is standard output to have colours: is it a terminal, and `NO_COLOR` not set?
pub fn coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A status as a word that stands out when it is bad, padded to `width` columns.
fn verdict(status: Status, width: usize, colour: bool) -> String {
    let (word, code) = match status {
        Status::Pass => ("pass", 32),
        Status::Fail => ("FAIL", 31),
        Status::Crash => ("CRASH", 31),
        Status::Unavailable => ("unavailable", 33),
    };
    if colour { format!("\u{1b}[{code}m{word:<width$}\u{1b}[0m") } else { format!("{word:<width$}") }
}

/// How many of each status there are: `1 passed, 0 failed, 0 crashed, 2 unavailable`.
fn counts(statuses: impl Iterator<Item = Status> + Clone) -> String {
    let count = |status| statuses.clone().filter(|other| *other == status).count();
    format!(
        "{} passed, {} failed, {} crashed, {} unavailable",
        count(Status::Pass),
        count(Status::Fail),
        count(Status::Crash),
        count(Status::Unavailable)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_around_the_word() {
        assert_eq!(verdict(Status::Fail, 6, true), "\u{1b}[31mFAIL  \u{1b}[0m");
        assert_eq!(verdict(Status::Crash, 0, false), "CRASH");
    }
}
