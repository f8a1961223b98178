//! Mistakes with a number, which is looked for.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Result;

use crate::combinations::CHEAP;
use crate::explanation::{Explanation, Trial};
use crate::hypothesis::Fit;
use crate::residual::Residual;
use crate::search::{MOST_SINGLE_STEPS, Search};
use crate::segment::{Candidate, StepIndex};

/// Steps of the search for a fitted number.
const GRID: usize = 64;
const REFINEMENTS: usize = 48;
/// How far from a number its neighbours are tried: as shares of it, each so many times the one before.
const NEAREST: f64 = 1e-9;
const NEIGHBOURS: i32 = 18;
const APART: f64 = 4.0;

/// A number that was found in a mistake, and what else would have fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The number.
    pub value: f64,
    /// The smallest that leaves everything within its limits.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Fitted {
    /// Is there a number that fits both?
    pub fn agrees(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// `what fits lies between 9992 and 10008`, with as many digits as tell the two apart.
impl fmt::Display for Fitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apart = (self.high / (self.high - self.low)).log10().ceil().clamp(0.0, 15.0) as usize + 1;
        let short = |value: f64| -> f64 { format!("{value:.apart$e}").parse().expect("a number") };
        let (low, high) = (short(self.low), short(self.high));
        if low >= 1.0 {
            write!(f, "what fits lies between {low} and {high}")
        } else {
            write!(f, "what fits lies between {low:e} and {high:e}")
        }
    }
}

impl Search<'_, '_> {
    /// Searches for the number that explains most, for each mistake that has one.
    pub(crate) fn fits(&mut self) -> Result<Vec<Explanation>> {
        if self.segment.steps.len() > MOST_SINGLE_STEPS {
            return Ok(Vec::new());
        }
        let whole = self.segment.steps.clone();
        let mut found = self.fits_in(&whole)?;
        let evaluations = Fit::ALL.len() * (GRID + 2 * REFINEMENTS);
        if found.is_empty() && whole.len() > 1 && self.cost() * evaluations * whole.len() <= CHEAP {
            for step in whole {
                found.extend(self.fits_in(&(step..step + 1))?);
            }
        }
        Ok(found)
    }

    /// The same for a mistake in `steps` alone.
    fn fits_in(&mut self, steps: &Range<StepIndex>) -> Result<Vec<Explanation>> {
        let layers = self.laboratory.config.num_hidden_layers;
        let mut found = Vec::new();
        for fit in Fit::ALL {
            if fit.in_layers_only() && steps.start >= layers {
                continue;
            }
            let (low, high) = fit.range();
            let points = (0..=GRID).map(|i| low + (high - low) * i as f64 / GRID as f64);
            let points: Vec<f64> = points.collect();
            let left = self.left(fit, steps, &points)?;
            let best = (0..points.len()).min_by(|a, b| left[*a].total_cmp(&left[*b]));
            let best = best.expect("the grid has points");
            let step = points[1] - points[0];
            let (low, high) = (points[best] - step, points[best] + step);
            let value = self.golden(fit, steps, low, high)?;
            found.extend(self.attempt_fit(fit, steps, value)?);
        }
        Ok(found)
    }

    /// What is left of the error at each of the logarithms `points`.
    fn left(&mut self, fit: Fit, steps: &Range<StepIndex>, points: &[f64]) -> Result<Vec<f64>> {
        let numbers: Vec<f64> = points.iter().map(|point| point.exp()).collect();
        let residuals = self.of_numbers(fit, steps, &numbers)?;
        Ok(residuals.iter().map(|r| r.relative).collect())
    }

    /// The residuals with each of `numbers` in the mistake.
    fn of_numbers(&mut self, fit: Fit, steps: &Range<StepIndex>, numbers: &[f64]) -> Result<Vec<Residual>> {
        let right = self.laboratory.right().clone();
        let candidates: Vec<_> = numbers
            .iter()
            .map(|number| {
                let variant = fit.hypothesis(*number, &right).variant(&right);
                Candidate::new(steps.clone(), variant)
            })
            .collect();
        self.laboratory.residuals(self.segment, &candidates)
    }

    /// Golden-section search between two logarithms.
    fn golden(&mut self, fit: Fit, steps: &Range<StepIndex>, mut low: f64, mut high: f64) -> Result<f64> {
        const SECTION: f64 = 0.618_033_988_749_894_8;
        for _ in 0..REFINEMENTS {
            let width = (high - low) * SECTION;
            let inner = [high - width, low + width];
            let left = self.left(fit, steps, &inner)?;
            if left[0] < left[1] {
                high = inner[1];
            } else {
                low = inner[0];
            }
        }
        Ok(((low + high) / 2.0).exp())
    }

    /// Finds how exactly the numbers in `found` are known.
    pub(crate) fn bound(&mut self, found: &mut [Explanation]) -> Result<()> {
        for explanation in found {
            let Some(hypothesis) = explanation.hypothesis.clone() else {
                continue;
            };
            // With two mistakes the words are of both.
            if let Some((fit, value)) = hypothesis.fit
                && hypothesis.words == explanation.words
            {
                let steps = explanation.steps.clone().unwrap_or(self.segment.steps.clone());
                let low = self.furthest(fit, &steps, value, -1.0)?;
                let high = self.furthest(fit, &steps, value, 1.0)?;
                explanation.fitted = Some(Fitted { value, low, high });
            }
        }
        Ok(())
    }

    /// The furthest number from `value` in a direction that leaves everything within its limits.
    fn furthest(&mut self, fit: Fit, steps: &Range<StepIndex>, value: f64, sign: f64) -> Result<f64> {
        let (least, most) = fit.range();
        let ways: Vec<f64> = (0..NEIGHBOURS).map(|i| NEAREST * APART.powi(i)).collect();
        let numbers = |ways: &[f64]| -> Vec<f64> {
            let number = |way: &f64| match value {
                // Nothing is a share of zero.
                0.0 => least.exp() * way / NEAREST,
                _ => (value.ln() + sign * way).clamp(least.min(value.ln()), most.max(value.ln())).exp(),
            };
            ways.iter().map(number).collect()
        };
        if value == 0.0 && sign < 0.0 {
            return Ok(value);
        }
        let first = self.first_misfit(fit, steps, &numbers(&ways))?;
        let Some(first) = first else {
            return Ok(*numbers(&ways).last().expect("there are neighbours"));
        };
        let (from, to) = (if first == 0 { 0.0 } else { ways[first - 1] }, ways[first]);
        let between: Vec<f64> = (1..8).map(|i| from + (to - from) * f64::from(i) / 8.0).collect();
        let inner = self.first_misfit(fit, steps, &numbers(&between))?.unwrap_or(between.len());
        Ok(if inner == 0 { numbers(&[from])[0] } else { numbers(&between[inner - 1..inner])[0] })
    }

    /// The first of `numbers` that leaves something beyond its limit.
    fn first_misfit(&mut self, fit: Fit, steps: &Range<StepIndex>, numbers: &[f64]) -> Result<Option<usize>> {
        let residuals = self.of_numbers(fit, steps, numbers)?;
        Ok(residuals.iter().position(|residual| residual.ratio > 1.0))
    }

    /// The fitted number with no more digits than it needs.
    fn attempt_fit(&mut self, fit: Fit, steps: &Range<StepIndex>, value: f64) -> Result<Vec<Explanation>> {
        let right = self.laboratory.right().clone();
        let mut found = Vec::new();
        for digits in [1, 2, 3, 4, 6, 9] {
            let rounded: f64 = format!("{value:.digits$e}").parse().expect("a number");
            let hypothesis = fit.hypothesis(rounded, &right);
            if hypothesis.variant(&right) == right {
                continue;
            }
            found = self.attempt(vec![Trial { parts: vec![Arc::new(hypothesis)], steps: steps.clone() }])?;
            if !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}
