//! What is going on, said on standard error.

use std::io::{IsTerminal, Write, stderr};

use crate::printable;

/// Says what a run is at: on a terminal, over what was said before, and nowhere else.
pub fn say(run: &str, what: &str) {
    if stderr().is_terminal() {
        let mut out = stderr().lock();
        let _ = write!(out, "\r\u{1b}[2K{}: {}", printable(run), printable(what));
        let _ = out.flush();
    }
}

/// Wipes the line that [`say`] wrote.
pub fn done() {
    if stderr().is_terminal() {
        eprint!("\r\u{1b}[2K");
    }
}
