//! Reports on a terminal.

mod bench;
mod cause;
mod parity;
mod screen;
mod verify;

use std::io::{IsTerminal, Result, Write, stdout};

pub use bench::write_bench;
pub use parity::ParityText;
pub use verify::write_verify;

use self::screen::Screen;
use crate::Status;

/// Is standard output to have colours: is it a terminal, and `NO_COLOR` not set?
pub fn coloured() -> bool {
    stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes a status as a word that stands out when it is bad, padded to `width` columns.
fn write_status(out: &mut Screen<impl Write>, status: Status, width: usize) -> Result<()> {
    let (word, code) = match status {
        Status::Pass => ("pass", 32),
        Status::Fail => ("FAIL", 31),
        Status::Crash => ("CRASH", 31),
        Status::Unavailable => ("unavailable", 33),
    };
    out.coloured(&format!("{word:<width$}"), code)
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
        let shown = |status, width, colour| {
            let mut out = Vec::new();
            write_status(&mut Screen::new(&mut out, colour), status, width).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Status::Fail, 6, true), "\u{1b}[31mFAIL  \u{1b}[0m");
        assert_eq!(shown(Status::Crash, 0, false), "CRASH");
    }

    #[test]
    fn text_from_files_gives_a_terminal_no_orders() {
        for colour in [false, true] {
            let mut out = Vec::new();
            writeln!(Screen::new(&mut out, colour), "\u{1b}[32mpass\u{7}\n\u{202e}é").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), "\\u{1b}[32mpass\\u{7}\n\\u{202e}é\n");
        }
    }
}
