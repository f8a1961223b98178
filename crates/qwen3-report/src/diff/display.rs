//! A [`Diff`] as text.

use std::fmt;
use std::io::{Result, Write};

use super::row::SLOWER;
use super::run::{FACTOR, SHARE};
use super::{Change, Diff};
use crate::ReportKind;
use crate::text::{Look, Screen};

/// How much of a list is printed: places, and lines of each.
struct Cap {
    places: usize,
    lines: usize,
}

const ALL: Cap = Cap { places: usize::MAX, lines: 12 };
const SHORT: Cap = Cap { places: 12, lines: 3 };
/// As many lines as a machine has facts.
const NOTES: Cap = Cap { places: 12, lines: 8 };

/// Writes what differs, the worse first.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_diff(diff: &Diff, out: &mut impl Write, look: Look) -> Result<()> {
    let out = &mut Screen::new(out, look);
    let (kind, runs, noun, tensors) = (diff.kind, diff.runs, diff.kind.noun(), diff.tensors);
    let (both, factors) = match kind {
        ReportKind::Bench => (
            format!("{kind} reports: {runs} {noun}s are in both"),
            format!(
                "a median counts as changed when it changes by more than {:.0} % and the spreads do not overlap",
                100.0 * (SLOWER - 1.0)
            ),
        ),
        ReportKind::Verify | ReportKind::Parity => (
            format!("{kind} reports: {runs} {noun}s and {tensors} tensors are in both"),
            format!(
                "an error counts as changed when error/limit changes by more than a factor of {FACTOR} and is above \
                 {SHARE}"
            ),
        ),
    };
    out.paragraph(0, &both)?;
    if let Some(caution) = diff.caution {
        out.bold(0, caution)?;
    }
    out.paragraph(0, &factors)?;
    if diff.worse.is_empty() {
        writeln!(out)?;
        out.bold(0, "nothing got worse")?;
    }
    list(out, "WORSE", &diff.worse, &ALL)?;
    list(out, "better", &diff.better, &SHORT)?;
    list(out, "new", &diff.new, &SHORT)?;
    list(out, "for information", &diff.notes, &NOTES)
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut text = Vec::new();
        write_diff(self, &mut text, Look::PLAIN).map_err(|_| fmt::Error)?;
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// The changes of each place below its name; nothing when there are none.
fn list(out: &mut Screen<impl Write>, title: &str, changes: &[Change], cap: &Cap) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    out.bold(0, &format!("{title}: {}", changes.len()))?;
    let mut places: Vec<(&str, Vec<&str>)> = Vec::new();
    for change in changes {
        match places.iter_mut().find(|(place, _)| *place == change.place) {
            Some((_, lines)) => lines.push(&change.what),
            None => places.push((&change.place, vec![&change.what])),
        }
    }
    for (place, lines) in places.iter().take(cap.places) {
        // One change of a case fits on its line, as most have only one.
        if let [line] = lines[..] {
            out.paragraph(2, &format!("{}: {}", one_line(place), one_line(line)))?;
            continue;
        }
        out.paragraph(2, &one_line(place))?;
        for line in lines.iter().take(cap.lines) {
            out.paragraph(4, &one_line(line))?;
        }
        if lines.len() > cap.lines {
            out.paragraph(4, &format!("... and {} more", lines.len() - cap.lines))?;
        }
    }
    if places.len() > cap.places {
        out.paragraph(2, &format!("... and {} more", places.len() - cap.places))?;
    }
    Ok(())
}

/// A name or a change, which may have come from a file, on one line.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let change = |place: &str| Change {
            place: place.into(),
            what: format!("{}: 0.120 -> 3.40e5", "accumulated layer_00.self_attn.q_rope ".repeat(3)),
        };
        let name = "long-context/prefill-1-64-255-256-257-chunk-256 on flex f32 (without kernels)";
        let worse = vec![change(name), change(&"x".repeat(200)), change(name)];
        let diff = Diff { worse, notes: vec![change("machine")], ..Diff::default() };
        for width in [60, 80] {
            let mut out = Vec::new();
            write_diff(&diff, &mut out, Look { width, ..Look::PLAIN }).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains("\nWORSE: 3\n"), "{text}");
            let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > width).collect();
            assert!(wide.is_empty(), "{wide:?}");
        }
    }
}
