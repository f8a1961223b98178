//! A [`Diff`] as text.

use std::fmt::{Display, Formatter, Result};

use super::row::SLOWER;
use super::run::{FACTOR, SHARE};
use super::{Change, Diff};
use crate::ReportKind;

/// How much of a list is printed: places, and lines of each.
struct Cap {
    places: usize,
    lines: usize,
}

const ALL: Cap = Cap { places: usize::MAX, lines: 12 };
const SHORT: Cap = Cap { places: 12, lines: 3 };
/// As many lines as a machine has facts.
const NOTES: Cap = Cap { places: 12, lines: 8 };

impl Display for Diff {
    fn fmt(&self, f: &mut Formatter) -> Result {
        let (kind, runs, noun, tensors) = (self.kind, self.runs, self.kind.noun(), self.tensors);
        let factors = match kind {
            ReportKind::Bench => {
                writeln!(f, "{kind} reports: {runs} {noun}s are in both")?;
                format!(
                    "a median counts as changed when it changes by more than {:.0} % and the spreads do not overlap",
                    100.0 * (SLOWER - 1.0)
                )
            }
            ReportKind::Verify | ReportKind::Parity => {
                writeln!(f, "{kind} reports: {runs} {noun}s and {tensors} tensors are in both")?;
                format!(
                    "an error counts as changed when error/limit changes by more than a factor of {FACTOR} and is \
                     above {SHARE}"
                )
            }
        };
        if let Some(caution) = self.caution {
            writeln!(f, "{caution}")?;
        }
        writeln!(f, "{factors}")?;
        if self.worse.is_empty() {
            writeln!(f, "\nnothing got worse")?;
        }
        list(f, "WORSE", &self.worse, &ALL)?;
        list(f, "better", &self.better, &SHORT)?;
        list(f, "new", &self.new, &SHORT)?;
        list(f, "for information", &self.notes, &NOTES)
    }
}

/// The changes of each place below its name; nothing when there are none.
fn list(f: &mut Formatter, title: &str, changes: &[Change], cap: &Cap) -> Result {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}: {}", changes.len())?;
    let mut places: Vec<(&str, Vec<&str>)> = Vec::new();
    for change in changes {
        match places.iter_mut().find(|(place, _)| *place == change.place) {
            Some((_, lines)) => lines.push(&change.what),
            None => places.push((&change.place, vec![&change.what])),
        }
    }
    for (place, lines) in places.iter().take(cap.places) {
        let place = harmless(place);
        // One change of a case fits on its line, as most have only one.
        if let [line] = lines[..] {
            writeln!(f, "  {place}: {}", harmless(line))?;
            continue;
        }
        writeln!(f, "  {place}")?;
        for line in lines.iter().take(cap.lines) {
            writeln!(f, "    {}", harmless(line))?;
        }
        if lines.len() > cap.lines {
            writeln!(f, "    ... and {} more", lines.len() - cap.lines)?;
        }
    }
    if places.len() > cap.places {
        writeln!(f, "  ... and {} more", places.len() - cap.places)?;
    }
    Ok(())
}

/// Without what would move a terminal's cursor.
fn harmless(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}
