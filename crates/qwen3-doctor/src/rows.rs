//! What happened to single rows of a matrix.

use qwen3_checkpoint::Encoding;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::formats::agreement;
use crate::pair::Pair;

/// So many rows are looked into.
const MOST_ROWS: usize = 4096;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowFate {
    /// It is zero.
    Zero,
    /// It holds this row of the original.
    Holds(usize),
    /// It is multiplied with this number.
    Scaled(f64),
    /// Something else.
    Differs,
}

/// The rows that are not the original's in any precision.
pub fn bad_rows(pair: &Pair) -> Vec<usize> {
    let bad = |row: &usize| pair.row(*row, *row).is_none();
    (0..pair.rows()).into_par_iter().filter(bad).collect()
}

/// What became of the `bad` rows, as far as they are looked into.
pub fn fates(pair: &Pair, bad: &[usize]) -> Vec<(usize, RowFate)> {
    let index = RowIndex::new(pair);
    let fate = |row: &usize| (*row, fate(pair, &index, *row));
    let (looked, others) = bad.split_at(bad.len().min(MOST_ROWS));
    let mut fates: Vec<(usize, RowFate)> = looked.par_iter().map(fate).collect();
    // What became of all of these may be what became of the others.
    if let [(first, RowFate::Holds(other)), ..] = fates[..] {
        let shift = other as i64 - first as i64;
        let is_shift = |row: usize, other: usize| other as i64 - row as i64 == shift;
        if fates.iter().all(|(row, fate)| matches!(fate, RowFate::Holds(other) if is_shift(*row, *other))) {
            let held = |row: &usize| {
                let other = usize::try_from(*row as i64 + shift).ok().filter(|other| *other < pair.rows())?;
                pair.row(*row, other).map(|_| (*row, RowFate::Holds(other)))
            };
            fates.par_extend(others.par_iter().filter_map(held));
        }
    }
    fates
}

fn fate(pair: &Pair, index: &RowIndex, row: usize) -> RowFate {
    let (found, expected) = (pair.found_row(row), pair.expected_row(row));
    if found.iter().all(|value| *value == 0.0) {
        return RowFate::Zero;
    }
    // Neighbours first: a buffer that was not filled, a vocabulary that is shifted.
    let near = [row.wrapping_sub(1), row + 1].into_iter().filter(|other| *other < pair.rows());
    let others = near.chain(index.near(found)).filter(|other| *other != row);
    if let Some(other) = others.into_iter().find(|other| pair.row(row, *other).is_some()) {
        return RowFate::Holds(other);
    }
    match factor(found, expected) {
        Some(factor) => {
            let scaled: Vec<f32> = expected.iter().map(|value| (f64::from(*value) * factor) as f32).collect();
            match agreement(found, &scaled, pair.columns, pair.encoding) {
                Some(_) => RowFate::Scaled(factor),
                None => RowFate::Differs,
            }
        }
        None => RowFate::Differs,
    }
}

/// The number that values are multiplied with, by least squares; `None` where that is none.
pub fn factor(found: &[f32], expected: &[f32]) -> Option<f64> {
    let product: f64 = found.iter().zip(expected).map(|(f, e)| f64::from(*f) * f64::from(*e)).sum();
    let square: f64 = expected.iter().map(|e| f64::from(*e) * f64::from(*e)).sum();
    Some(product / square).filter(|factor| factor.is_finite() && *factor != 0.0)
}

/// Rows by what they are in some random directions.
struct RowIndex {
    directions: Vec<Vec<f32>>,
    /// By the first direction; of each row all of them, and its number.
    rows: Vec<([f32; DIRECTIONS], usize)>,
    /// How far a row may be from itself, as a part of its length.
    tolerance: f32,
}

const DIRECTIONS: usize = 6;

impl RowIndex {
    fn new(pair: &Pair) -> Self {
        let mut random = rand::rngs::StdRng::seed_from_u64(15);
        let direction = |_| (0..pair.columns).map(|_| StandardNormal.sample(&mut random)).collect();
        let directions: Vec<Vec<f32>> = (0..DIRECTIONS).map(direction).collect();
        let place = |row: usize| (placed(&directions, pair.expected_row(row)), row);
        let mut rows: Vec<_> = (0..pair.rows()).into_par_iter().map(place).collect();
        rows.sort_by(|(a, _), (b, _)| a[0].total_cmp(&b[0]));
        let tolerance = if matches!(pair.encoding, Encoding::Plain(_)) { 0.1 } else { 0.4 };
        Self { directions, rows, tolerance }
    }

    /// The rows that `row` may be.
    fn near(&self, row: &[f32]) -> impl Iterator<Item = usize> {
        let at = placed(&self.directions, row);
        let far = self.tolerance * row.iter().map(|value| value * value).sum::<f32>().sqrt();
        let start = self.rows.partition_point(|(place, _)| place[0] < at[0] - far);
        let window = self.rows[start..].iter().take_while(move |(place, _)| place[0] <= at[0] + far);
        let close = move |place: &[f32; DIRECTIONS]| place.iter().zip(&at).all(|(a, b)| (a - b).abs() <= far);
        window.filter(move |(place, _)| close(place)).map(|(_, row)| *row)
    }
}

fn placed(directions: &[Vec<f32>], row: &[f32]) -> [f32; DIRECTIONS] {
    std::array::from_fn(|at| directions[at].iter().zip(row).map(|(a, b)| a * b).sum())
}
