//! Mistakes that change little more than noise does. What is left of the error says little then: most of it is noise.
//! But the error lies where the mistake leads, as far as it leads, in one token as in the others.

use std::sync::Arc;

use crate::Result;
use crate::explanation::{Explanation, Trial};
use crate::hypothesis::Hypothesis;
use crate::ops::dot;
use crate::search::Search;
use crate::variant::Variant;

/// Of an error so many times its limit, less than the share that has to go is left by noise.
const QUIET: f64 = 4.0;
/// No more than this share of the error may be left.
const LEFT: f64 = 0.6;
/// The error may be so much shorter or longer along the mistake's change than the change is, as a share of it.
const APART: f64 = 0.15;
/// The same when any one token is left out, whose noise the others' then have to do without.
const APART_WITHOUT_ONE: f64 = 0.25;

/// A change and an error, along each other.
#[derive(Clone, Copy, Default)]
struct Along {
    change: f64,
    error: f64,
    product: f64,
}

impl Along {
    fn of(change: &[f64], error: &[f64]) -> Self {
        Self { change: dot(change, change), error: dot(error, error), product: dot(change, error) }
    }

    fn and(self, other: Self) -> Self {
        Self {
            change: self.change + other.change,
            error: self.error + other.error,
            product: self.product + other.product,
        }
    }

    /// Does the error go as far along the change as the change goes, but for such a share of it, and little beside it?
    fn agrees(self, apart: f64) -> bool {
        let left = self.error - 2.0 * self.product + self.change;
        (self.product / self.change - 1.0).abs() <= apart && left <= LEFT * LEFT * self.error
    }
}

/// Is `error` what `change` does, both `[tokens, width]`, but for noise that is nearly as large: in all tokens together,
/// and whichever of them is left out?
fn leads(change: &[f64], error: &[f64], width: usize) -> bool {
    let tokens: Vec<Along> = change
        .chunks(width)
        .zip(error.chunks(width))
        .map(|(change, error)| Along::of(change, error))
        .collect();
    let but = |out: Option<usize>| {
        let kept = tokens.iter().enumerate().filter(|(token, _)| Some(*token) != out);
        kept.fold(Along::default(), |sum, (_, token)| sum.and(*token))
    };
    but(None).agrees(APART) && (0..tokens.len()).all(|token| but(Some(token)).agrees(APART_WITHOUT_ONE))
}

impl Search<'_, '_> {
    /// Single mistakes, without a number that could be bent, that lead where the error of one step lies: the one that
    /// leaves least. Noise of which the limits know, and no more than they allow, is left.
    pub(crate) fn along(&mut self) -> Result<Vec<Explanation>> {
        let last = self.segment.watched.last().expect("something is watched").clone();
        let steps = self.segment.steps.clone();
        if self.before.ratio > QUIET || steps.len() != 1 || last.site.is_inner() {
            return Ok(Vec::new());
        }
        let rows = self.laboratory.rows;
        let width = last.values.len() / (0..rows.visible.len()).map(|row| rows.tokens(row)).sum::<usize>();
        let right = self.laboratory.right().clone();
        let expected = self.given(&right)?;
        let off = |values: &[f64]| -> Vec<f64> { values.iter().zip(&expected).map(|(a, b)| a - b).collect() };
        let error = off(&last.values);
        let near = self
            .tried
            .iter()
            .filter(|(left, hypothesis)| hypothesis.fit.is_none() && *left <= LEFT * self.before.relative);
        let near: Vec<Arc<Hypothesis>> = near.map(|(_, hypothesis)| Arc::clone(hypothesis)).collect();
        let mut trials = Vec::new();
        for hypothesis in near {
            if leads(&off(&self.given(&hypothesis.variant(&right))?), &error, width) {
                trials.push(Trial { parts: vec![hypothesis], steps: steps.clone() });
            }
        }
        let mut found = self.those(trials, |_, after| after.ratio <= 1.0)?;
        let least = found.first().map_or(0.0, |best| best.after.relative);
        found.retain(|explanation| explanation.after.relative <= least);
        Ok(found)
    }

    /// What a variant gives for the last tensor of the segment.
    fn given(&mut self, variant: &Variant) -> Result<Vec<f64>> {
        let mut values = self.laboratory.watched_values(self.segment, variant)?;
        Ok(values.pop().expect("something is watched"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 32;

    /// Numbers that look random, of a mean square of 1.
    fn random(seed: u32) -> impl Iterator<Item = f64> {
        (1..).map(move |i: u32| 2_f64.sqrt() * (f64::from(i * i) * (1.7 + 0.37 * f64::from(seed))).sin())
    }

    /// Does a change lead to `share` of it and noise of half its size, in eight tokens that change by `sizes`?
    fn found(share: f64, sizes: [f64; 8]) -> bool {
        let sizes = sizes.iter().flat_map(|size| [*size; WIDTH]);
        let change: Vec<f64> = sizes.zip(random(1)).map(|(size, x)| size * x).collect();
        let error: Vec<f64> =
            change.iter().zip(random(2)).map(|(x, noise)| share * x + 0.5 * noise).collect();
        leads(&change, &error, WIDTH)
    }

    #[test]
    fn an_error_lies_along_a_mistake_as_far_as_it_leads() {
        assert!(found(1.0, [1.0; 8]));
        for share in [0.0, 0.5, 0.7, 1.4, -1.0] {
            assert!(!found(share, [1.0; 8]), "{share}");
        }
        // One token alone says nothing: whatever disturbs it may lead there.
        assert!(!found(1.0, [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
        assert!(found(1.0, [1.5, 0.0, 1.0, 0.0, 1.5, 0.0, 1.0, 1.5]));
    }
}
