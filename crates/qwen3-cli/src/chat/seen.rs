//! What the editor has of a line when it gives none.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

/// No hand is as quick between a letter and the line's end.
const QUICK: Duration = Duration::from_millis(5);

/// Looks on while a line is edited.
pub struct Seen(RefCell<(String, Instant)>);

impl Default for Seen {
    fn default() -> Self {
        Self(RefCell::new((String::new(), Instant::now())))
    }
}

impl Seen {
    /// A line begins, with this text in it.
    pub fn begin(&self, text: &str) {
        self.0.replace((text.into(), Instant::now()));
    }

    /// The line as it was last.
    pub fn line(&self) -> String {
        self.0.borrow().0.clone()
    }

    /// Did the line change a moment ago, so that its end was not typed?
    pub fn is_quick(&self) -> bool {
        let (line, changed) = &*self.0.borrow();
        !line.is_empty() && changed.elapsed() < QUICK
    }
}

impl Hinter for Seen {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        let mut seen = self.0.borrow_mut();
        if seen.0 != line {
            *seen = (line.into(), Instant::now());
        }
        None
    }
}

impl Completer for Seen {
    type Candidate = String;
}

impl Highlighter for Seen {}
impl Validator for Seen {}
impl Helper for Seen {}
