//! One tensor beside the original: what became of it.

use qwen3_checkpoint::{CheckpointError, Encoding};
use qwen3_config::Qwen3Config;
use qwen3_report::doctor::{Ailment, Finding, Health, Through};

use crate::formats::{Agreement, agreement, relative};
use crate::groups::finding;
use crate::pair::Pair;
use crate::row_findings::{LISTED, of_rows};
use crate::rows::bad_rows;
use crate::sample::Samples;
use crate::whole::{number, scaled, transpose, whole};

/// Of a matrix of which more rows are bad, what happened to all of it is asked first.
const MOST_BAD: f64 = 0.5;
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

    /// What happened to it, when it is not right: findings that name it alone, none where its rows went through several
    /// precisions. `original` gives another tensor's values.
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
            return Ok(findings);
        }
        if bad.is_empty() && !coarse {
            // Every row is right, not all in the same precision.
            return Ok(findings);
        }
        match of_rows(&pair, &bad, config) {
            none if none.is_empty() => findings.push(self.differs(&pair)),
            rows => findings.extend(rows),
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
