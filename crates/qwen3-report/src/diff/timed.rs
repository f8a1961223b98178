//! A row of a benchmark.

use super::Change;
use crate::Label;
use crate::bench::{Figures, PeerRow, Row};
use crate::measure::three_digits;

/// A row of ours or of another engine.
pub struct Timed<'a> {
    /// The workload and the place.
    pub name: String,
    /// The backend or engine, and the dtype.
    pub place: String,
    /// What was measured.
    pub figures: &'a Figures,
    /// Is it ours?
    pub ours: bool,
}

impl<'a> Timed<'a> {
    fn new(label: Label, figures: &'a Figures, ours: bool) -> Self {
        let place = label.to_string();
        Self { name: format!("{} on {place}", figures.workload), place, figures, ours }
    }
}

impl Timed<'_> {
    /// A change of this row.
    pub fn change(&self, what: String) -> Change {
        Change { place: self.name.clone(), what }
    }

    /// `12.3 tok/s`.
    pub fn median(&self) -> String {
        format!("{} {}", three_digits(self.figures.median()), self.figures.unit)
    }
}

impl<'a> From<&'a Row> for Timed<'a> {
    fn from(row: &'a Row) -> Self {
        Self::new(row.label(), &row.figures, true)
    }
}

impl<'a> From<&'a PeerRow> for Timed<'a> {
    fn from(row: &'a PeerRow) -> Self {
        Self::new(Label::new(&row.peer, row.figures.dtype), &row.figures, false)
    }
}
