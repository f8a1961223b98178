//! A tensor beside what it should be.

use qwen3_checkpoint::Encoding;

use crate::formats::{Agreement, agreement};

/// The values of a tensor and those that it should have, in one shape.
pub struct Pair<'a> {
    /// Its key.
    pub key: &'a str,
    /// What it holds.
    pub found: &'a [f32],
    /// What it should hold.
    pub expected: &'a [f32],
    /// Values of a row; of a vector all.
    pub columns: usize,
    /// How what it holds is stored.
    pub encoding: &'a Encoding,
}

impl Pair<'_> {
    /// How many rows there are; of a vector one.
    pub fn rows(&self) -> usize {
        self.found.len() / self.columns
    }

    /// Row `row` of what it holds.
    pub fn found_row(&self, row: usize) -> &[f32] {
        &self.found[row * self.columns..][..self.columns]
    }

    /// Row `row` of what it should hold.
    pub fn expected_row(&self, row: usize) -> &[f32] {
        &self.expected[row * self.columns..][..self.columns]
    }

    /// How row `row` of what it holds stands to row `other` of what it should hold.
    pub fn row(&self, row: usize, other: usize) -> Option<Agreement> {
        agreement(self.found_row(row), self.expected_row(other), self.columns, self.encoding)
    }

    /// How what it holds stands to something else that it might hold.
    pub fn to(&self, expected: &[f32]) -> Option<Agreement> {
        agreement(self.found, expected, self.columns, self.encoding)
    }
}
