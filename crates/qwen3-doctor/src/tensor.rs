//! One tensor beside the original: what became of it.

use std::collections::HashSet;

use qwen3_checkpoint::{CheckpointError, Encoding};
use qwen3_config::Qwen3Config;
use qwen3_report::doctor::{Ailment, Finding, Health, Through};

use crate::formats::{Agreement, agreement, relative};
use crate::groups::finding;
use crate::pair::Pair;
use crate::rows::{RowFate, bad_rows, fates};
use crate::sample::Samples;
use crate::whole::{number, scaled, transpose, whole};

/// Of a matrix of which more rows are bad, what happened to all of it is asked first.
const MOST_BAD: f64 = 0.5;
/// So many rows of a finding are listed.
const LISTED: usize = 16;

/// A tensor and what it should be.
pub struct Tensor<'a> {
    /// Its key.
    pub key: &'a str,
    /// What it holds.
    pub found: Vec<f32>,
    /// In which shape.
    pub shape: &'a [usize],
    /// How that is stored.
    pub encoding: &'a Encoding,
    /// What it should hold.
    pub expected: Vec<f32>,
    /// In which shape.
    pub expected_shape: &'a [usize],
}

/// What a look at all values tells.
#[derive(Default)]
pub struct Look {
    /// Why it could not be read.
    pub unreadable: Option<String>,
    /// How it stands to the original, where nothing is wrong.
    pub health: Option<Health>,
    /// The precision between them.
    pub through: Option<Through>,
    /// The largest difference.
    pub max_abs: Option<f64>,
    /// The rms of the differences over that of the original.
    pub relative: Option<f64>,
}

impl Tensor<'_> {
    fn columns(&self) -> usize {
        self.expected_shape.last().copied().unwrap_or(1).max(1)
    }

    /// Is it right, in some precision?
    pub fn look(&self) -> Look {
        if self.shape != self.expected_shape {
            return Look::default();
        }
        let differences = self.found.iter().zip(&self.expected).map(|(f, e)| (f - e).abs());
        let most =
            differences.fold(0.0_f32, |most, error| if error.is_nan() { error } else { most.max(error) });
        let found = agreement(&self.found, &self.expected, self.columns(), self.encoding);
        let finite = |value: f64| value.is_finite().then_some(value);
        let (health, through) = match found {
            _ if !most.is_finite() => (None, None),
            Some(Agreement::Same) => (Some(Health::Same), None),
            Some(Agreement::Through(through)) => (Some(Health::Precision), Some(through)),
            None => (None, None),
        };
        let relative = finite(relative(&self.found, &self.expected));
        Look { unreadable: None, health, through, max_abs: finite(f64::from(most)), relative }
    }

    /// What happened to it, when it is not right: findings that name it alone. `original` gives another tensor's values.
    ///
    /// # Errors
    /// When the original cannot be read.
    pub fn examine(
        &mut self,
        config: &Qwen3Config,
        samples: &Samples,
        original: impl Fn(&str) -> Result<Vec<f32>, CheckpointError>,
    ) -> Result<Vec<Finding>, CheckpointError> {
        let mut findings = Vec::new();
        if let Some(finding) = self.not_finite() {
            findings.push(finding);
        }
        if let Some(other) = self.of_another(samples, original)? {
            findings.push(other);
            return Ok(findings);
        }
        if self.shape != self.expected_shape {
            findings.push(self.other_shape());
            return Ok(findings);
        }
        let pair = Pair {
            key: self.key,
            found: &self.found,
            expected: &self.expected,
            columns: self.columns(),
            encoding: self.encoding,
        };
        // Without what is not finite it may be right.
        if !findings.is_empty() && pair.to(pair.expected).is_some() {
            return Ok(findings);
        }
        if pair.found.iter().all(|value| *value == 0.0) {
            findings.push(self.finding(Ailment::Zero, format!("{}: all values are zero", self.key)));
            return Ok(findings);
        }
        let bad = if pair.rows() > 1 { bad_rows(&pair) } else { vec![0] };
        let most_are_bad = bad.len() as f64 > MOST_BAD * pair.rows() as f64;
        // Of few bits, single rows leave room for a factor that all of them together do not.
        let coarse = !matches!(pair.encoding, Encoding::Plain(_));
        let all = match most_are_bad {
            true => whole(&pair, config),
            false => scaled(&pair).filter(|_| coarse),
        };
        if let Some(all) = all {
            let explanation = format!("{}: {}", self.key, all.what);
            findings.push(Finding { factor: all.factor, ..self.finding(all.id, explanation) });
        } else if pair.rows() > 1 {
            findings.extend(self.of_rows(&pair, &bad, config));
        } else {
            findings.push(self.differs(&pair));
        }
        Ok(findings)
    }

    fn finding(&self, id: Ailment, explanation: String) -> Finding {
        finding(id, self.key, explanation)
    }

    /// Values that are NaN or infinite, which are then left out: zero, and expected to be.
    fn not_finite(&mut self) -> Option<Finding> {
        let odd: Vec<usize> = (0..self.found.len()).filter(|at| !self.found[*at].is_finite()).collect();
        let &first = odd.first()?;
        let explanation = format!(
            "{}: {} of {} values are NaN or infinite, the first, {}, at flat index {first}",
            self.key,
            odd.len(),
            self.found.len(),
            self.found[first]
        );
        let columns = self.columns();
        let mut rows: Vec<usize> = odd.iter().map(|at| at / columns).collect();
        rows.dedup();
        for at in odd {
            self.found[at] = 0.0;
            if let Some(expected) = self.expected.get_mut(at) {
                *expected = 0.0;
            }
        }
        let count = rows.len();
        rows.truncate(LISTED);
        Some(Finding { rows, row_count: Some(count), ..self.finding(Ailment::NotFinite, explanation) })
    }

    /// Does it hold another tensor of the original?
    fn of_another(
        &self,
        samples: &Samples,
        original: impl Fn(&str) -> Result<Vec<f32>, CheckpointError>,
    ) -> Result<Option<Finding>, CheckpointError> {
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        for other in samples.like(self.key, self.shape, &self.found) {
            let expected = original(other)?;
            if agreement(&self.found, &expected, columns, self.encoding).is_some() {
                let explanation = format!("{} holds the values of {other}", self.key);
                let finding = self.finding(Ailment::Stale, explanation);
                return Ok(Some(Finding { with: vec![other.into()], ..finding }));
            }
        }
        Ok(None)
    }

    fn other_shape(&self) -> Finding {
        let shapes =
            format!("{}: shape {:?} where {:?} is expected", self.key, self.shape, self.expected_shape);
        if let ([rows, columns], [expected_rows, expected_columns]) = (self.shape, self.expected_shape) {
            if (rows, columns) == (expected_columns, expected_rows) {
                let expected = transpose(&self.expected, *expected_columns);
                if agreement(&self.found, &expected, *columns, self.encoding).is_some() {
                    return self
                        .finding(Ailment::Transposed, format!("{shapes}: rows and columns are exchanged"));
                }
            }
            if columns == expected_columns {
                let common = rows.min(expected_rows) * columns;
                let (found, expected) = (&self.found[..common], &self.expected[..common]);
                if common > 0 && agreement(found, expected, *columns, self.encoding).is_some() {
                    let more = if rows > expected_rows { "more" } else { "fewer" };
                    let explanation = format!(
                        "{shapes}: the first {} rows are the original's, and there are {} {more}",
                        rows.min(expected_rows),
                        rows.abs_diff(*expected_rows)
                    );
                    return self.finding(Ailment::Shape, explanation);
                }
            }
        }
        if self.found.len() == self.expected.len()
            && agreement(&self.found, &self.expected, self.columns(), self.encoding).is_some()
        {
            return self.finding(Ailment::Shape, format!("{shapes}: the values are the original's"));
        }
        self.finding(Ailment::Shape, shapes)
    }

    /// What happened to the `bad` rows.
    fn of_rows(&self, pair: &Pair, bad: &[usize], config: &Qwen3Config) -> Vec<Finding> {
        let fates = fates(pair, bad);
        let of = |is: &dyn Fn(&RowFate) -> bool| -> Vec<usize> {
            fates.iter().filter(|(_, fate)| is(fate)).map(|(row, _)| *row).collect()
        };
        let zero = of(&|fate| *fate == RowFate::Zero);
        let scaled = of(&|fate| matches!(fate, RowFate::Scaled(_)));
        let mut differ = of(&|fate| *fate == RowFate::Differs);
        // Those of which nothing is known.
        let known: HashSet<usize> = fates.iter().map(|(row, _)| *row).collect();
        differ.extend(bad.iter().filter(|row| !known.contains(row)));
        let holds: Vec<(usize, usize)> = fates
            .iter()
            .filter_map(
                |(row, fate)| if let RowFate::Holds(other) = fate { Some((*row, *other)) } else { None },
            )
            .collect();
        let is_bad = |row: &usize| bad.binary_search(row).is_ok();
        let (mut moved, mut stale): (Vec<_>, Vec<_>) =
            holds.into_iter().partition(|(_, other)| is_bad(other));
        // The first of rows that are all shifted holds one that is where it should be.
        let shift = |(row, other): &(usize, usize)| *other as i64 - *row as i64;
        if moved.iter().chain(&stale).all(|held| moved.len() > 1 && shift(held) == shift(&moved[0])) {
            moved.append(&mut stale);
            moved.sort_unstable();
        }

        let mut findings = Vec::new();
        let mut add = |id, rows: Vec<usize>, what: String, factor| {
            if rows.is_empty() {
                return;
            }
            let count = rows.len();
            let explanation = format!("{}: {count} of {} rows {what}", self.key, pair.rows());
            let rows = rows.into_iter().take(LISTED).collect();
            let finding = self.finding(id, explanation);
            findings.push(Finding { rows, row_count: Some(count), factor, ..finding });
        };
        add(Ailment::ZeroRows, zero.clone(), format!("are zero, {}", first(&zero)), None);
        let (rows, what) = moved_words(&moved, self.key, config);
        add(Ailment::RowsExchanged, rows, what, None);
        let rows: Vec<usize> = stale.iter().map(|(row, _)| *row).collect();
        let what = stale.first().map(|(row, other)| {
            format!("hold other rows, which are where they should be, too: row {row} holds row {other}")
        });
        add(Ailment::StaleRows, rows, what.unwrap_or_default(), None);
        let factors: Vec<f64> = fates
            .iter()
            .filter_map(|(_, fate)| if let RowFate::Scaled(factor) = fate { Some(*factor) } else { None })
            .collect();
        let (least, most) =
            factors.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), factor| {
                (least.min(*factor), most.max(*factor))
            });
        let one = most - least <= 1e-3 * most.abs();
        let by = if one { number(least) } else { format!("{} to {}", number(least), number(most)) };
        let what = format!("are multiplied with {by}, {}", first(&scaled));
        add(Ailment::ScaledRows, scaled, what, one.then_some(least));
        if differ.len() == pair.rows() {
            findings.push(self.differs(pair));
        } else {
            let what = format!("differ, and nothing known explains them, {}", first(&differ));
            add(Ailment::RowsDiffer, differ, what, None);
        }
        findings
    }

    fn differs(&self, pair: &Pair) -> Finding {
        let error = relative(pair.found, pair.expected);
        let product: f64 =
            pair.found.iter().zip(pair.expected).map(|(f, e)| f64::from(*f) * f64::from(*e)).sum();
        let length =
            |values: &[f32]| values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        let cosine = product / (length(pair.found) * length(pair.expected));
        let others = pair.found.iter().zip(pair.expected).filter(|(f, e)| f != e).count();
        let guess = match cosine {
            c if c > 0.9 => "the same weights, changed: trained on, or damaged a little",
            c if c.abs() < 0.1 => "other weights: they have nothing in common",
            _ => "in part the same weights",
        };
        let explanation = format!(
            "{}: {others} of {} values differ, by {} of their size, cosine {}: {guess}",
            self.key,
            pair.found.len(),
            number(error),
            number(cosine)
        );
        self.finding(Ailment::Differs, explanation)
    }
}

/// The first of some rows.
fn first(rows: &[usize]) -> String {
    match rows {
        [] => String::new(),
        [row] => format!("row {row}"),
        [first, .., last] if last - first + 1 == rows.len() => format!("rows {first} to {last}"),
        [first, ..] => format!("the first is row {first}"),
    }
}

/// Rows that hold other rows, and in which way.
fn moved_words(moved: &[(usize, usize)], key: &str, config: &Qwen3Config) -> (Vec<usize>, String) {
    let rows = moved.iter().map(|(row, _)| *row).collect();
    let Some(&(row, other)) = moved.first() else { return (rows, String::new()) };
    let by = other as i64 - row as i64;
    if moved.len() > 2 && moved.iter().all(|(row, other)| *other as i64 - *row as i64 == by) {
        let place = if by < 0 { "before" } else { "behind" };
        return (rows, format!("hold the row {} {place} them, {}", by.abs(), first(&[row])));
    }
    let head = config.head_dim;
    let of_heads = ["q_proj.", "k_proj.", "v_proj."].iter().any(|name| key.contains(name));
    let within = moved.iter().all(|(row, other)| row % head == other % head);
    if of_heads && within {
        let mut heads: Vec<(usize, usize)> =
            moved.iter().map(|(row, other)| (row / head, other / head)).collect();
        heads.dedup();
        let heads: Vec<String> =
            heads.iter().map(|(head, other)| format!("head {head} holds head {other}")).collect();
        return (rows, format!("are in another order: {}", heads.join(", ")));
    }
    (rows, format!("are in another order: row {row} holds row {other}"))
}
