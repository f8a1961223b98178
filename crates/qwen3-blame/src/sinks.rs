//! Attention sinks with a learned score for each head, as gpt-oss has them: one more term of the softmax, which makes what
//! comes out of a head smaller, in each token by as much as its other terms are small.

use std::ops::Range;
use std::sync::Arc;

use qwen3_config::Tap;

use crate::Result;
use crate::explanation::{Explanation, Trial};
use crate::hypothesis::Hypothesis;
use crate::ops::dot;
use crate::search::Search;
use crate::segment::{Segment, StepIndex, Watched};
use crate::variant::Variant;

/// The id of sinks, learned or not.
pub const ID: &str = "attention_sink";
/// Rounds of Gauss and Newton's method. Each doubles a sink that outweighs all other terms, or comes near the end.
const ROUNDS: usize = 16;
/// What a round has to leave at most of the error, or there is nothing to be found.
const LEFT: f64 = 0.9;
/// Fewer tokens do not tell whether a head's numbers agree.
const FEWEST_TOKENS: usize = 4;
/// How far a sink is moved to see where that leads, as a share of the other terms.
const MOVED: f64 = 1e-4;
/// The largest sum of terms that the softmax of a sink of score 0 tells.
const LARGEST_SUM: f64 = 1e10;
/// Scores that are told.
const TOLD: usize = 8;

/// What is behind the softmax, in one layer, and what of it is fitted.
struct Fitting {
    segment: Segment,
    /// What a row is divided by: as long as what was observed. Zero for those that are not fitted.
    scales: Vec<f64>,
    width: usize,
}

impl Fitting {
    /// Each so many-th token of `watched`.
    fn of(segment: &Segment, watched: &Watched, tokens: usize, each: usize) -> Self {
        let width = watched.values.len() / tokens;
        let scale = |(token, row): (usize, &[f64])| match dot(row, row).sqrt() {
            length if length > 0.0 && token % each == 0 => 1.0 / length,
            _ => 0.0,
        };
        let scales = watched.values.chunks(width).enumerate().map(scale).collect();
        let segment = Segment {
            steps: segment.steps.clone(),
            input: segment.input.clone(),
            seen: None,
            watched: vec![watched.clone()],
        };
        Self { segment, scales, width }
    }

    fn scaled(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        values.enumerate().map(|(index, value)| value * self.scales[index / self.width]).collect()
    }
}

impl Search<'_, '_> {
    /// Sinks that explain one layer, fitted to the first tensor behind its softmax.
    pub(crate) fn sinks(&mut self) -> Result<Vec<Explanation>> {
        let config = &self.laboratory.config;
        let (heads, steps) = (config.num_attention_heads, self.segment.steps.clone());
        let rows = self.laboratory.rows;
        let tokens = (0..rows.visible.len()).map(|row| rows.tokens(row)).sum::<usize>();
        let behind =
            |watched: &&Watched| watched.site.tap >= Tap::Context && !watched.site.tap.is_of_experts();
        let watched = self.segment.watched.iter().find(behind);
        let watched = watched.filter(|_| steps.len() == 1 && steps.start < config.num_hidden_layers);
        let Some(watched) = watched.filter(|_| tokens >= FEWEST_TOKENS) else {
            return Ok(Vec::new());
        };
        let (segment, before) = (self.segment, self.before);
        // Those of every second token have to be the others', too; then all tell them more exactly.
        let half = Fitting::of(segment, watched, tokens, 2);
        let all = Fitting::of(segment, watched, tokens, 1);
        let sinks = self.fitted_sinks(&half, vec![0.0; heads])?;
        let agreed = self.those(vec![trial(&sinks, steps.clone())], |_, after| after.explains(before))?;
        if agreed.is_empty() {
            return Ok(agreed);
        }
        let sinks = self.fitted_sinks(&all, sinks)?;
        self.those(vec![trial(&sinks, steps)], |_, after| after.explains_closely(before))
    }

    /// The exponentials of the sinks' scores that come nearest, beginning with some.
    fn fitted_sinks(&mut self, fitting: &Fitting, mut sinks: Vec<f64>) -> Result<Vec<f64>> {
        let heads = sinks.len();
        let sums = self.sums(fitting, heads)?;
        let observed = fitting.scaled(fitting.segment.watched[0].values.iter().copied());
        let mut now = self.with_sinks(fitting, &sinks)?;
        let error = |now: &[f64]| -> Vec<f64> { observed.iter().zip(now).map(|(o, n)| o - n).collect() };
        for _ in 0..ROUNDS {
            let left = error(&now);
            let mut changes = Vec::with_capacity(heads);
            for head in 0..heads {
                if self.laboratory.is_late() {
                    return Ok(sinks);
                }
                let moved = MOVED * (sums[head] + sinks[head]);
                let mut other = sinks.clone();
                other[head] += moved;
                let changed = self.with_sinks(fitting, &other)?;
                changes.push(changed.iter().zip(&now).map(|(a, b)| (a - b) / moved).collect::<Vec<f64>>());
            }
            let step = nearest(&changes, &left);
            let next: Vec<f64> = sinks.iter().zip(&step).map(|(sink, step)| (sink + step).max(0.0)).collect();
            let values = self.with_sinks(fitting, &next)?;
            let (before, after) = (dot(&left, &left).sqrt(), dot(&error(&values), &error(&values)).sqrt());
            if after.is_nan() || after >= LEFT * before {
                break;
            }
            (sinks, now) = (next, values);
        }
        Ok(sinks)
    }

    /// The smallest sum of a head's terms in any token, from what a sink of score 0 makes of it.
    fn sums(&mut self, fitting: &Fitting, heads: usize) -> Result<Vec<f64>> {
        let right = self.laboratory.right().clone();
        let with = Variant { sinks: Some(vec![0.0; heads].into()), ..right.clone() };
        let head_dim = self.laboratory.config.head_dim;
        let (step, input) = (fitting.segment.steps.start, &fitting.segment.input);
        let [whole, less] = [&right, &with].map(|variant| self.laboratory.context(step, variant, input));
        let (whole, less) = (whole?, less?);
        let mut sums = vec![LARGEST_SUM; heads];
        for (index, (whole, less)) in whole.chunks(head_dim).zip(less.chunks(head_dim)).enumerate() {
            let share = dot(whole, less) / dot(whole, whole);
            let sum = share / (1.0 - share);
            if sum > 0.0 {
                sums[index % heads] = sums[index % heads].min(sum);
            }
        }
        Ok(sums)
    }

    /// What is fitted, with these exponentials of scores.
    fn with_sinks(&mut self, fitting: &Fitting, sinks: &[f64]) -> Result<Vec<f64>> {
        let scores = sinks.iter().map(|sink| sink.ln()).collect();
        let variant = Variant { sinks: Some(scores), ..self.laboratory.right().clone() };
        let values = self.laboratory.watched_values(&fitting.segment, &variant)?;
        Ok(fitting.scaled(values.into_iter().flatten()))
    }
}

/// Sinks of these exponentials of scores, in a layer.
fn trial(sinks: &[f64], steps: Range<StepIndex>) -> Trial {
    let scores: Arc<[f64]> = sinks.iter().map(|sink| sink.ln()).collect();
    let told: Vec<String> = scores.iter().take(TOLD).map(|score| format!("{score:.3}")).collect();
    let more = if scores.len() > TOLD { ", .." } else { "" };
    let words = format!("the softmax of each head has one more term, of scores {}{more}", told.join(", "));
    let hypothesis = Hypothesis::new(ID, words, move |v: &mut Variant| v.sinks = Some(Arc::clone(&scores)));
    Trial { parts: vec![Arc::new(hypothesis)], steps }
}

/// How much of each of `changes` comes nearest to `error` together: least squares, by orthogonal directions.
fn nearest(changes: &[Vec<f64>], error: &[f64]) -> Vec<f64> {
    let count = changes.len();
    let lengths: Vec<f64> = changes.iter().map(|change| dot(change, change).sqrt()).collect();
    let largest = lengths.iter().copied().fold(0.0, f64::max);
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    // Of each direction: how much of it there is in the later changes, and in the error.
    let (mut shares, mut rests, mut along) =
        (vec![vec![0.0; count]; count], vec![0.0; count], vec![0.0; count]);
    for (index, change) in changes.iter().enumerate() {
        let mut rest = change.clone();
        for (known, direction) in basis.iter().enumerate() {
            let share = dot(direction, &rest);
            shares[known][index] += share;
            rest.iter_mut().zip(direction).for_each(|(rest, direction)| *rest -= share * direction);
        }
        let left = dot(&rest, &rest).sqrt();
        if left > 1e-9 * lengths[index] && lengths[index] > 1e-12 * largest {
            rest.iter_mut().for_each(|x| *x /= left);
            (rests[index], along[index]) = (left, dot(&rest, error));
        } else {
            rest.fill(0.0);
        }
        basis.push(rest);
    }
    let mut much = vec![0.0; count];
    for index in (0..count).rev().filter(|index| rests[*index] > 0.0) {
        let later: f64 = (index + 1..count).map(|later| shares[index][later] * much[later]).sum();
        much[index] = (along[index] - later) / rests[index];
    }
    much
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_of_changes_that_are_not_orthogonal() {
        let changes =
            [vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 1.0, 0.0, 0.0], vec![0.0; 4], vec![0.0, 2.0, 0.0, 1.0]];
        let error = [3.0 - 2.0, -2.0 + 1.0, 3.0, 0.5];
        let much = nearest(&changes, &error);
        let wanted = [3.0, -2.0, 0.0, 0.5];
        assert!(much.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{much:?}");
    }
}
