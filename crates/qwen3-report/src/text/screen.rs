//! What a terminal is given.

use std::io::{IsTerminal, Result, Write, stdout};

use qwen3_trace::{printable, printable_lines};

/// Nothing is laid out for less, and prose is no wider than is easily read.
const WIDTHS: [usize; 2] = [60, 100];

/// How reports look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Are there colours and bold letters?
    pub colour: bool,
    /// How many columns a line may have.
    pub width: usize,
    /// Are only the rows shown that fail?
    pub fail_only: bool,
}

impl Look {
    /// Without colours, 80 columns wide: for a file or a pipe.
    pub const PLAIN: Self = Self { colour: false, width: 80, fail_only: false };

    /// As standard output is: coloured where it is a terminal and `NO_COLOR` is not set, and as wide as the terminal.
    pub fn of_stdout() -> Self {
        if !stdout().is_terminal() {
            return Self::PLAIN;
        }
        let width = textwrap::termwidth().clamp(WIDTHS[0], WIDTHS[1]);
        Self { colour: std::env::var_os("NO_COLOR").is_none(), width, ..Self::PLAIN }
    }
}

/// Writes text with everything escaped that a terminal would obey, but for lines: names and reasons come from files.
/// Colours are the exception, and are given as such.
pub(crate) struct Screen<'a, W> {
    out: &'a mut W,
    look: Look,
}

impl<'a, W: Write> Screen<'a, W> {
    /// Nothing written yet.
    pub(crate) fn new(out: &'a mut W, look: Look) -> Self {
        Self { out, look }
    }

    /// How it looks.
    pub(super) fn look(&self) -> Look {
        self.look
    }

    /// Writes `text` in the colour of this number, where there are colours; 1 is bold.
    pub(super) fn coloured(&mut self, text: &str, colour: u8) -> Result<()> {
        if self.look.colour {
            write!(self.out, "\u{1b}[{colour}m{}\u{1b}[0m", printable(text))
        } else {
            self.write_all(text.as_bytes())
        }
    }

    /// Writes `text` in lines that fit, the first indented by so many columns and the others by two more.
    pub(crate) fn paragraph(&mut self, indent: usize, text: &str) -> Result<()> {
        self.lines(&" ".repeat(indent), indent + 2, text, None)
    }

    /// The same in bold letters, where there are any.
    pub(crate) fn bold(&mut self, indent: usize, text: &str) -> Result<()> {
        self.lines(&" ".repeat(indent), indent + 2, text, Some(1))
    }

    /// Writes `text` behind a name in lines that fit, all but the first indented as the text is.
    pub(super) fn named(&mut self, name: &str, text: &str) -> Result<()> {
        self.lines(name, name.chars().count(), text, None)
    }

    fn lines(&mut self, first: &str, indent: usize, text: &str, colour: Option<u8>) -> Result<()> {
        for line in wrapped(self.look.width, first, indent, text) {
            match colour {
                Some(colour) => self.coloured(&line, colour)?,
                None => self.write_all(line.as_bytes())?,
            }
            self.write_all(b"\n")?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Screen<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.out.write_all(printable_lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }
}

/// `text`, escaped, in lines of at most `width` columns, the first behind `first`.
fn wrapped(width: usize, first: &str, indent: usize, text: &str) -> Vec<String> {
    let indent = " ".repeat(indent);
    let options = textwrap::Options::new(width).initial_indent(first).subsequent_indent(&indent);
    let text = printable_lines(text);
    let lines = textwrap::wrap(&text, options);
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// `name`, or its beginning and end with an ellipsis between them where it is wider than `width` columns.
pub(super) fn shortened(name: &str, width: usize) -> String {
    let name = printable(name);
    if textwrap::core::display_width(&name) <= width {
        return name.into_owned();
    }
    let room = width.saturating_sub(1);
    let fit = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut left = room;
        let fits = chars.take_while(|c| {
            let columns = textwrap::core::display_width(c.encode_utf8(&mut [0; 4]));
            let fits = columns <= left;
            left = left.saturating_sub(columns);
            fits
        });
        fits.collect::<String>()
    };
    let begin = fit(&mut name.chars(), room / 2);
    let end = fit(&mut name.chars().rev(), room - room / 2);
    format!("{begin}\u{2026}{}", end.chars().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_in_the_middle() {
        assert_eq!(shortened("logits", 6), "logits");
        assert_eq!(shortened("layer_00_output", 8), "lay\u{2026}tput");
        // Wide letters take two columns.
        assert_eq!(shortened("\u{5c42}\u{5c42}\u{5c42}\u{5c42}", 6), "\u{5c42}\u{2026}\u{5c42}");
    }

    #[test]
    fn lines_fit_and_words_that_do_not_are_cut() {
        let lines = wrapped(20, "model  ", 7, "models/a-folder-of-a-long-name and\nmore");
        assert_eq!(lines.join("|"), "model  models/a-|       folder-of-a-|       long-name and|       more");
        assert!(wrapped(20, "", 2, &"x".repeat(50)).iter().all(|line| line.len() <= 20));
        assert_eq!(wrapped(20, "", 2, "\u{1b}[31m"), ["\\u{1b}[31m"]);
    }

    #[test]
    fn bold_is_given_to_terminals_alone_and_files_give_no_orders() {
        let written = |colour| {
            let mut out = Vec::new();
            let look = Look { colour, ..Look::PLAIN };
            Screen::new(&mut out, look).bold(2, "a\u{1b}[0m").unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(false), "  a\\u{1b}[0m\n");
        assert_eq!(written(true), "\u{1b}[1m  a\\u{1b}[0m\u{1b}[0m\n");
    }
}
