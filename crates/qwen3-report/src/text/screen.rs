//! What a terminal is given.

use std::io::{Result, Write};

use qwen3_trace::printable_lines;

/// Writes text with everything escaped that a terminal would obey, but for lines: names and reasons come from files.
/// Colours are the exception, and are given as such.
pub(super) struct Screen<'a, W> {
    out: &'a mut W,
    colour: bool,
}

impl<'a, W: Write> Screen<'a, W> {
    /// Nothing written yet.
    pub(super) fn new(out: &'a mut W, colour: bool) -> Self {
        Self { out, colour }
    }

    /// Writes `text` in the colour of this number, where there are colours.
    pub(super) fn coloured(&mut self, text: &str, colour: u8) -> Result<()> {
        if self.colour {
            write!(self.out, "\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            self.write_all(text.as_bytes())
        }
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
