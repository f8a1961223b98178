//! Mistakes with a number, which is looked for.

use std::ops::Range;
use std::sync::Arc;

use crate::Result;

use crate::catalogue::Fit;
use crate::combinations::CHEAP;
use crate::search::{Explanation, MOST_SINGLE_STEPS, Search, Trial};
use crate::segment::{Candidate, StepIndex};

/// Steps of the search for a fitted number.
const GRID: usize = 64;
const REFINEMENTS: usize = 48;

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
            let (low, high) = match fit {
                Fit::Theta => (1e1_f64.ln(), 1e9_f64.ln()),
                // A larger one is as good as no layer, or as another scale of the scores.
                _ => (1e-13_f64.ln(), 1e-1_f64.ln()),
            };
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
        let right = self.laboratory.right().clone();
        let candidates: Vec<_> = points
            .iter()
            .map(|point| {
                let variant = fit.hypothesis(point.exp(), &right).variant(&right);
                Candidate::new(steps.clone(), variant)
            })
            .collect();
        let residuals = self.laboratory.residuals(self.segment, &candidates)?;
        Ok(residuals.iter().map(|r| r.relative).collect())
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
