//! Reports on a terminal.

mod bench;
mod cause;
mod doctor;
mod parity;
mod screen;
mod verify;

use std::io::{Result, Write};

use qwen3_trace::figure;

pub use bench::write_bench;
pub use doctor::write_doctor;
pub use parity::{ParityText, write_listed};
pub use screen::Look;
pub use verify::write_verify;

pub(crate) use self::screen::Screen;
use crate::Status;
pub use crate::diff::write_diff;

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

/// A number that may be none for not being finite.
fn number(value: Option<f64>) -> String {
    figure(value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_around_the_word() {
        let shown = |status, width, colour| {
            let (mut out, look) = (Vec::new(), Look { colour, ..Look::PLAIN });
            write_status(&mut Screen::new(&mut out, look), status, width).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Status::Fail, 6, true), "\u{1b}[31mFAIL  \u{1b}[0m");
        assert_eq!(shown(Status::Crash, 0, false), "CRASH");
    }

    #[test]
    fn text_from_files_gives_a_terminal_no_orders() {
        for colour in [false, true] {
            let (mut out, look) = (Vec::new(), Look { colour, ..Look::PLAIN });
            writeln!(Screen::new(&mut out, look), "\u{1b}[32mpass\u{7}\n\u{202e}é").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), "\\u{1b}[32mpass\\u{7}\n\\u{202e}é\n");
        }
    }
}
