//! The ids that were chosen against the reference's, and whether noise can have made a difference.

use serde::{Deserialize, Serialize};

use crate::logits::{best, kl_divergence, lost};
use crate::{Array, Limits, Reference, TensorLimit, TraceError, Values};

/// A generated token against the reference's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenVerdict {
    /// The sequence in the batch.
    pub row: usize,
    /// The step of decoding.
    pub step: usize,
    /// Its absolute position in the sequence.
    pub position: usize,
    /// The reference's choice.
    pub expected: u32,
    /// The observed choice.
    pub observed: i64,
    /// By how much the reference's best logit was ahead of its second best; of the observed logits
    /// when the reference does not tell.
    pub margin: Option<f64>,
    /// They differ, by no more than noise can turn around.
    pub tie: bool,
    /// As in [`LogitsDifference`](crate::logits::LogitsDifference), of this token.
    pub kl_divergence: Option<f64>,
    /// As in [`LogitsDifference`](crate::logits::LogitsDifference), of this token.
    pub regret_nats: Option<f64>,
    /// How many steps the reference has; 0 when a report does not tell.
    #[serde(default)]
    pub steps: usize,
    /// How far the logit of the observed choice is behind that of the reference's, over what noise can turn around: at
    /// most 1 is a tie. `None` where logits are not known.
    #[serde(default)]
    pub ratio: Option<f64>,
    /// What the reference's choice stands for, where the model's `tokenizer.json` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_text: Option<String>,
    /// What the observed choice stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_text: Option<String>,
}

impl TokenVerdict {
    /// The same, or a tie?
    pub fn passes(&self) -> bool {
        self.tie || i64::from(self.expected) == self.observed
    }
}

/// Judges the choices of steps that were fed the reference's tokens: `observed`, and `expected` where
/// the reference has it, `[batch, steps, vocab]`.
pub fn stepped(
    reference: &Reference,
    observed: &[f32],
    expected: Option<&[f32]>,
    vocab: usize,
    limit: &TensorLimit,
) -> Vec<TokenVerdict> {
    let steps = reference.steps();
    let mut results = Vec::new();
    for (index, logits) in observed.chunks(vocab).enumerate() {
        let (row, step) = (index / steps, index % steps);
        let wanted = reference.generated[row][step];
        let chosen = best(logits);
        let expected = expected.map(|all| &all[index * vocab..(index + 1) * vocab]);
        // What stands between the two choices, in the logits that chose.
        let gap = f64::from(logits[chosen]) - f64::from(logits[wanted as usize]);
        let known = reference.margins.as_ref().map(|margins| margins[row][step]);
        results.push(TokenVerdict {
            row,
            step,
            position: position(reference, row, step),
            expected: wanted,
            observed: chosen as i64,
            margin: known.or_else(|| margin(expected.unwrap_or(logits))),
            tie: chosen != wanted as usize && gap <= 2.0 * limit.max_abs(),
            kl_divergence: expected
                .map(|expected| kl_divergence(expected, logits))
                .filter(|value| value.is_finite()),
            regret_nats: expected.map(|expected| lost(expected, chosen)).filter(|value| value.is_finite()),
            steps,
            ratio: over(gap, 2.0 * limit.max_abs()),
            expected_text: None,
            observed_text: None,
        });
    }
    results
}

/// Judges the ids of a free run, up to the first in each row that differs; those behind it follow
/// another text.
///
/// # Errors
/// When a tensor of the reference is malformed.
///
/// # Panics
/// When the ids are not those of the prompt; see [`Reference::check_same_prompt`].
pub fn free_run(
    reference: &Reference,
    grid: &[Vec<i64>],
    limits: &Limits,
) -> Result<Vec<TokenVerdict>, TraceError> {
    let seq = reference.ids[0].len();
    let choices = Choices::of(reference, limits)?;
    let mut results = Vec::new();
    for (row, ids) in grid.iter().enumerate() {
        let pairs = ids[seq..].iter().zip(&reference.generated[row]);
        for (step, (&observed, &expected)) in pairs.enumerate() {
            let same = observed == i64::from(expected);
            results.push(TokenVerdict {
                row,
                step,
                position: position(reference, row, step),
                expected,
                observed,
                margin: choices.margin(row, step),
                tie: !same && choices.tie(row, step, observed),
                kl_divergence: None,
                regret_nats: None,
                steps: reference.steps(),
                ratio: if same { Some(0.0) } else { choices.ratio(row, step, observed) },
                expected_text: None,
                observed_text: None,
            });
            if !same {
                break;
            }
        }
    }
    Ok(results)
}

/// What the reference knows of the ids that it did not choose.
struct Choices<'a> {
    margins: Option<&'a Vec<Vec<f64>>>,
    /// Logits `[batch, steps, vocab]` of every step, or of the first.
    logits: Option<Array>,
    /// How far two logits may come closer by noise.
    noise: f64,
}

impl<'a> Choices<'a> {
    fn of(reference: &'a Reference, limits: &Limits) -> Result<Self, TraceError> {
        let file = &reference.trace;
        let key = if file.has("step_logits")? { "step_logits" } else { "logits" };
        let mut logits = file.array(key)?;
        let mut noise = 0.0;
        if let Some(array) = &mut logits {
            noise = 2.0 * limits.whole(key, &array.wide(key)?).max_abs();
            let floats = array.floats(key)?;
            if key == "logits" {
                // Those of the last token of the prompt choose the first id.
                let [batch, seq, vocab] = array.shape[..] else {
                    return Ok(Self::unknown(reference, noise));
                };
                let last = (0..batch).map(|row| (row * seq + seq - 1) * vocab);
                let last = last.flat_map(|start| floats[start..start + vocab].to_vec());
                *array = Array { values: Values::Float(last.collect()), shape: vec![batch, 1, vocab] };
            }
        }
        let batch = reference.ids.len();
        let logits = logits.filter(|array| array.shape.len() == 3 && array.shape[0] == batch);
        Ok(Self { logits, ..Self::unknown(reference, noise) })
    }

    fn unknown(reference: &'a Reference, noise: f64) -> Self {
        Self { margins: reference.margins.as_ref(), logits: None, noise }
    }

    fn row(&self, row: usize, step: usize) -> Option<&[f32]> {
        let array = self.logits.as_ref()?;
        let [steps, vocab] = array.shape[1..] else {
            return None;
        };
        let start = (row * steps + step) * vocab;
        let values = array.floats("logits").ok()?;
        (step < steps).then(|| &values[start..start + vocab])
    }

    fn margin(&self, row: usize, step: usize) -> Option<f64> {
        let known = self.margins.map(|margins| margins[row][step]);
        known.or_else(|| margin(self.row(row, step)?))
    }

    /// Can noise have made `observed` the best, in place of the reference's choice?
    fn tie(&self, row: usize, step: usize, observed: i64) -> bool {
        // Which id was second, a margin alone does not tell.
        self.ratio(row, step, observed).is_some_and(|ratio| ratio <= 1.0)
    }

    fn ratio(&self, row: usize, step: usize, observed: i64) -> Option<f64> {
        over(behind(self.row(row, step)?, observed)?, self.noise)
    }
}

/// How far the logit of `id` is behind the best; `None` without such an id.
fn behind<T: Copy + PartialOrd + Into<f64>>(logits: &[T], id: i64) -> Option<f64> {
    let chosen = usize::try_from(id).ok().and_then(|id| logits.get(id));
    chosen.map(|chosen| logits[best(logits)].into() - (*chosen).into())
}

/// A gap between logits over what `noise` can turn around; `None` when it is no finite number.
fn over(gap: f64, noise: f64) -> Option<f64> {
    let ratio = if gap == 0.0 { 0.0 } else { gap / noise };
    ratio.is_finite().then_some(ratio)
}

/// Judges ids that differ again, by the right logits `[batch, steps, vocab]`: the reference did not tell how
/// near to the best they are.
pub fn with_right_logits(tokens: &mut [TokenVerdict], right: &[f64], steps: usize, limits: &Limits) {
    let rows = 1 + tokens.iter().map(|token| token.row).max().unwrap_or(0);
    let vocab = right.len() / (rows * steps);
    let noise = 2.0 * limits.of("step_logits", right).max_abs();
    for token in tokens.iter_mut().filter(|token| !token.passes()) {
        let start = (token.row * steps + token.step) * vocab;
        let logits = &right[start..start + vocab];
        token.ratio = behind(logits, token.observed).and_then(|gap| over(gap, noise));
        token.tie = token.ratio.is_some_and(|ratio| ratio <= 1.0);
        token.margin = token.margin.or_else(|| margin(logits));
    }
}

fn position(reference: &Reference, row: usize, step: usize) -> usize {
    reference.rows.tokens(row) + step
}

fn margin<T: Copy + PartialOrd + Into<f64>>(logits: &[T]) -> Option<f64> {
    let first = best(logits);
    let others = logits.iter().enumerate().filter(|(index, _)| *index != first);
    let second = others.map(|(_, value)| (*value).into()).fold(f64::NEG_INFINITY, f64::max);
    let margin = logits[first].into() - second;
    margin.is_finite().then_some(margin)
}
