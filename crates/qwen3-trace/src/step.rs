//! Runs in half precision, judged step by step: each by what was observed before it.
//!
//! What a whole run may be off by grows from layer to layer, and in half precision it hides small mistakes. But a
//! layer's input is known to the bit, and from it follows what the layer should have given; an honest one is off by no
//! more than its own operations are.

use qwen3_config::Precision;

use crate::size::Size;
use crate::{Floor, LayerVerdict, Reference, Trace, TraceError};

/// A step's error may be so many times what honest operations are off by, rms over its tokens.
const RMS: f64 = 1.0;
/// The error of any one token.
const WORST: f64 = 2.2;
/// All steps' errors together: what is a little off everywhere.
const TOGETHER: f64 = 0.8;
/// On top of what honest operations are off by, so many epsilons of the expected values' rms.
const ULPS: f64 = 1.0 / 16.0;

/// What one step of an observed run should have given, from what was observed before it.
#[derive(Clone, Debug)]
pub struct StepExpectation {
    /// The tensor that comes out of it.
    pub key: String,
    /// Its values in float64, `[tokens, width]`, padding left out.
    pub values: Vec<f64>,
    /// What honest operations in the dtype are off by, given the same: of each token, or one for all.
    pub floors: Vec<Floor>,
}

/// How far one step is off, in units of what honest operations are off by.
#[derive(Clone, Copy, Debug)]
struct StepError {
    /// The root of the mean square over the tokens.
    rms: f64,
    /// Of the worst token.
    worst: f64,
}

impl StepError {
    /// Of `observed` and `expected`, both `[tokens, width]`, where honest operations are off by `floors` in each token.
    fn of(observed: &[f64], expected: &[f64], floors: &[f64]) -> Self {
        let width = expected.len() / floors.len();
        let rows = expected.chunks(width).zip(observed.chunks(width)).zip(floors);
        let errors = rows.map(|((expected, observed), floor)| {
            let errors: Vec<f64> = expected.iter().zip(observed).map(|(e, o)| e - o).collect();
            Size::of(&errors).rms / floor.max(f64::MIN_POSITIVE)
        });
        let errors = Size::of(&errors.collect::<Vec<_>>());
        Self { rms: errors.rms, worst: errors.largest }
    }

    /// Over what one step may be off by; at most 1 passes.
    fn ratio(self) -> f64 {
        (self.rms / RMS).max(self.worst / WORST)
    }
}

/// How far what comes out of a step may be from what follows from what was observed before it.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLimit {
    /// The rms error of honest operations, of each token.
    floors: Vec<f64>,
    /// The share of it that is left to this step, where all steps together are off by too much.
    share: f64,
}

impl StepLimit {
    /// Error over limit, of tensors without padding; at most 1 passes.
    pub fn ratio(&self, observed: &[f64], expected: &[f64]) -> f64 {
        StepError::of(observed, expected, &self.floors).ratio() / self.share
    }
}

impl StepExpectation {
    /// How far `observed` is off, rms over the tokens, in units of what honest operations in `dtype` are; `None` where it
    /// has no such tensor.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn share(
        &self,
        reference: &Reference,
        observed: &Trace,
        dtype: Precision,
    ) -> Result<Option<f64>, TraceError> {
        let found = self.seen(reference, observed)?;
        Ok(found.map(|(rows, tokens)| self.error(&rows, dtype, tokens).rms))
    }

    /// What was observed, without padding, and how many tokens that are.
    fn seen(&self, reference: &Reference, observed: &Trace) -> Result<Option<(Vec<f64>, usize)>, TraceError> {
        let seen = reference.rows.visible.concat();
        let Some(values) = observed.values(&self.key)? else {
            return Ok(None);
        };
        let rows = values.chunks(values.len() / seen.len()).zip(&seen);
        let rows = rows.filter(|(_, seen)| **seen).flat_map(|(row, _)| row).copied().collect();
        Ok(Some((rows, seen.iter().filter(|seen| **seen).count())))
    }

    /// Compares with what was observed of `tokens` tokens.
    fn error(&self, observed: &[f64], dtype: Precision, tokens: usize) -> StepError {
        StepError::of(observed, &self.values, &self.floors(dtype, tokens))
    }

    /// The rms error of honest operations, of each token.
    ///
    /// Where a rounding decides much, as in sharp attention, those tried may have been lucky with one token: none has
    /// less of its size than all have together.
    fn floors(&self, dtype: Precision, tokens: usize) -> Vec<f64> {
        let sizes = self.values.chunks(self.values.len() / tokens).map(|row| Size::of(row).rms);
        let sizes: Vec<f64> = sizes.collect();
        let tried = |token: usize| self.floors.get(token).unwrap_or(&self.floors[0]).rms;
        let shares = sizes.iter().enumerate().filter(|(_, size)| **size > 0.0);
        let shares: Vec<f64> = shares.map(|(token, size)| tried(token) / size).collect();
        let least = if self.floors.len() > 1 { Size::of(&shares).rms } else { 0.0 };
        let floor =
            |(token, size): (usize, &f64)| tried(token).max(least * size) + ULPS * dtype.epsilon() * size;
        sizes.iter().enumerate().map(floor).collect()
    }

    /// The smallest rms error beyond what passes, as a share of the expected values' rms.
    fn sensitivity(&self, dtype: Precision, tokens: usize) -> f64 {
        RMS * Size::of(&self.floors(dtype, tokens)).rms / Size::of(&self.values).rms
    }
}

/// What is to be said of a step.
struct StepVerdict {
    /// Error over limit; at most 1 passes.
    ratio: f64,
    /// What is left to this step of what one alone may be off by.
    share: f64,
    note: String,
}

/// Makes failures of those of `verdicts` that are off by more than honest operations are.
///
/// # Errors
/// When a tensor is malformed.
pub(crate) fn judge(
    reference: &Reference,
    dtype: Precision,
    observed: &Trace,
    expected: &[StepExpectation],
    verdicts: &mut [LayerVerdict],
) -> Result<(), TraceError> {
    let tokens = reference.rows.visible.iter().flatten().filter(|seen| **seen).count();
    let mut errors = Vec::new();
    for step in expected {
        if let Some((rows, tokens)) = step.seen(reference, observed)? {
            errors.push((step, step.error(&rows, dtype, tokens)));
        }
    }
    for (step, StepVerdict { ratio, share, note }) in judged(errors) {
        let Some(verdict) = verdicts.iter_mut().find(|verdict| verdict.verdict.name == step.key) else {
            continue;
        };
        verdict.sensitivity = verdict.sensitivity.map(|seen| seen.min(step.sensitivity(dtype, tokens)));
        if ratio > 1.0 {
            if verdict.calibrated <= 1.0 {
                verdict.by_step = Some(StepLimit { floors: step.floors(dtype, tokens), share });
            }
            verdict.calibrated = verdict.calibrated.max(ratio);
            verdict.ratio = verdict.ratio.map(|known| known.max(ratio));
            verdict.verdict.pass = false;
            let notes = verdict.verdict.note.take().into_iter().chain([note]);
            verdict.verdict.note = Some(notes.collect::<Vec<_>>().join("; "));
        }
    }
    Ok(())
}

/// Judges the steps of a run: each, and the worst for all of them together.
fn judged(errors: Vec<(&StepExpectation, StepError)>) -> Vec<(&StepExpectation, StepVerdict)> {
    let together = Size::of(&errors.iter().map(|(_, error)| error.rms).collect::<Vec<_>>());
    let verdict = |(step, error): (_, StepError)| {
        let StepError { rms, worst } = error;
        let alone = error.ratio();
        let all = if rms == together.largest { together.rms / TOGETHER } else { 0.0 };
        let mut note = format!(
            "from what was observed before it, off by {rms:.2} times what honest operations are, {worst:.2} in the worst \
             token"
        );
        if all > alone.max(1.0) {
            note.push_str(&format!("; {:.2} in all steps together", together.rms));
        }
        let ratio = alone.max(all);
        (step, StepVerdict { ratio, share: alone / ratio, note })
    };
    errors.into_iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios of steps of four tokens whose errors are these shares of the floor.
    fn ratios(steps: &[[f64; 4]]) -> Vec<f64> {
        let values: Vec<f64> = (0..32).map(|i| (f64::from(i) * 1.7).sin()).collect();
        let floors = vec![Floor { max_abs: 0.2, rms: 0.1 }; 4];
        let expected = |key| StepExpectation { key, values: values.clone(), floors: floors.clone() };
        let expected: Vec<_> = (0..steps.len()).map(|step| expected(step.to_string())).collect();
        let errors = expected.iter().zip(steps).map(|(step, shares)| {
            let off =
                |(i, value): (usize, &f64)| value + 0.1 * shares[i / 8] * if i % 2 == 0 { 1.0 } else { -1.0 };
            let observed: Vec<f64> = values.iter().enumerate().map(off).collect();
            (step, step.error(&observed, Precision::F16, 4))
        });
        judged(errors.collect()).into_iter().map(|(_, verdict)| verdict.ratio).collect()
    }

    #[test]
    fn a_step_a_token_and_all_steps_together_have_their_limits() {
        let beyond =
            |steps: &[[f64; 4]]| ratios(steps).into_iter().map(|ratio| ratio > 1.0).collect::<Vec<_>>();
        assert_eq!(beyond(&[[0.7, 0.5, 0.8, 0.8], [1.3, 0.5, 0.6, 0.6]]), [false, false]);
        assert_eq!(beyond(&[[0.3; 4], [1.2; 4]]), [false, true]);
        assert_eq!(beyond(&[[0.1, 0.1, 0.1, 2.4], [0.3; 4]]), [true, false]);
        // What is a little off everywhere.
        assert_eq!(beyond(&[[0.95; 4], [0.9; 4], [0.95; 4]]), [true, false, true]);
    }
}
