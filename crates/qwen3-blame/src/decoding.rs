//! Mistakes that only cached steps have: the prompt's activations are right, the generated tokens are not.

use anyhow::{Context, Result, ensure};
use qwen3_import::Checkpoint;

use super::Divergence;
use super::guesses::not_finite;
use super::probe::Tokens;
use super::residual::Residual;
use super::search::Explanation;
use super::segment::Laboratory;
use super::weights::embedding_rows;
use crate::verify::{Activations, Limits, best};

/// Positions that a cached step may be off by, nearest first.
const OFFSETS: [i64; 8] = [1, -1, 2, -2, 3, -3, 4, -4];

/// What was generated, and what differs from it.
pub struct Steps {
    /// The tensor that differs first.
    pub divergence: Divergence,
    /// What explains it.
    pub explanations: Vec<Explanation>,
    /// The error of the right model.
    pub before: Residual,
}

/// Looks at the generated tokens of `observed`. `None` when nothing differs from the reference. Without
/// explanations, [`Steps::before`] tells whether the right model gives what was observed.
///
/// A cached step whose positions are off rotates its query and its own key against the keys of the
/// prompt. Steps are recomputed as one pass over prompt and generated tokens.
///
/// # Errors
/// When a tensor is malformed or a weight cannot be read.
pub fn cached_steps(
    checkpoint: &mut Checkpoint,
    tokens: &Tokens,
    ids: &[u32],
    reference: &Activations,
    observed: &Activations,
    limits: &Limits,
) -> Result<Option<Steps>> {
    let [batch, seq] = tokens.dims();
    let Some(expected) = generated(reference, batch, seq)? else {
        return Ok(None);
    };
    // Ours follow the reference's tokens; somebody else's run follows its own.
    let own = generated(observed, batch, seq)?;
    let followed = own.as_ref().unwrap_or(&expected);
    let steps = followed[0].len().min(expected[0].len());
    let logits = observed.values("step_logits")?;
    let vocab = checkpoint.config().vocab_size;
    let logits = logits.filter(|logits| logits.len() == batch * steps * vocab);
    let chosen: Vec<Vec<usize>> = match (&logits, &own) {
        (_, Some(ids)) => ids.iter().map(|row| row[..steps].to_vec()).collect(),
        (Some(logits), None) => rows(
            &logits.chunks(vocab).map(best::<f64>).collect::<Vec<_>>(),
            steps,
        ),
        (None, None) => return Ok(None),
    };
    let differs = chosen
        .iter()
        .zip(&expected)
        .any(|(a, b)| a[..] != b[..steps]);
    let tensor = match diverging_logits(reference, logits.as_deref(), limits, &chosen, &expected)? {
        true => "step_logits",
        false if differs => "generated_ids",
        false => return Ok(None),
    };
    let known = |row: &Vec<usize>| row.iter().all(|id| *id < vocab);
    ensure!(
        followed.iter().all(known),
        "{}: `generated_ids` holds an id that is not below vocab_size {vocab}",
        observed.path().display()
    );

    let mut compare = |offset: i64| -> Result<Option<Residual>> {
        let Some(predicted) = predict(checkpoint, tokens, ids, followed, steps, offset)? else {
            return Ok(None);
        };
        if let Some(logits) = &logits {
            let limit = limits.of("step_logits", logits);
            return Ok(Some(Residual::of(&predicted, logits, &limit)));
        }
        // Two logits that noise can exchange are as good as each other.
        let noise = 2.0 * limits.of("step_logits", &predicted).max_abs;
        let wrong = predicted.chunks(vocab).zip(chosen.concat());
        let wrong = wrong.filter(|(row, id)| row[best(row)] - row[*id] > noise);
        let wrong = wrong.count();
        Ok(Some(Residual {
            relative: wrong as f64 / (batch * steps) as f64,
            ratio: if wrong == 0 { 0.0 } else { f64::INFINITY },
        }))
    };
    let before = compare(0)?.expect("the right positions are possible");
    let logits_are = |logits: &Vec<f64>| not_finite(logits, "step_logits");
    let mut explanations: Vec<_> = logits.as_ref().and_then(logits_are).into_iter().collect();
    if before.ratio > 1.0 && explanations.is_empty() {
        for offset in OFFSETS {
            let after = compare(offset)?;
            if let Some(after) = after.filter(|after| after.explains(before)) {
                let words =
                    format!("cached steps stand {offset:+} positions from where they should");
                explanations.push(Explanation {
                    whole: Some(format!("the generated tokens follow if {words}")),
                    ..Explanation::plain("rope_position_offset", words, after)
                });
                break;
            }
        }
    }
    Ok(Some(Steps {
        divergence: Divergence {
            layer: None,
            tensor: tensor.into(),
        },
        explanations,
        before,
    }))
}

/// The right logits `[batch, steps, vocab]` of the steps that generate `followed`, `[batch][steps]`, after
/// the prompt `ids`.
///
/// # Errors
/// When a weight cannot be read.
pub fn right_logits(
    checkpoint: &mut Checkpoint,
    tokens: &Tokens,
    ids: &[u32],
    followed: &[Vec<usize>],
) -> Result<Vec<f64>> {
    let steps = followed[0].len();
    let predicted = predict(checkpoint, tokens, ids, followed, steps, 0)?;
    Ok(predicted.expect("the right positions are possible"))
}

/// The logits `[batch, steps, vocab]` of `steps` steps along `followed` that stand `offset` positions from
/// where they should; `None` when that would be before the first position.
fn predict(
    checkpoint: &mut Checkpoint,
    tokens: &Tokens,
    ids: &[u32],
    followed: &[Vec<usize>],
    steps: usize,
    offset: i64,
) -> Result<Option<Vec<f64>>> {
    let [batch, seq] = tokens.dims();
    let Some(tokens) = continued(tokens, steps, offset) else {
        return Ok(None);
    };
    let row = |row: usize| {
        let prompt = ids[row * seq..(row + 1) * seq].iter().copied();
        let after = followed[row][..steps - 1].iter().map(|id| *id as u32);
        prompt.chain(after)
    };
    let all: Vec<u32> = (0..batch).flat_map(row).collect();
    let embedded = embedding_rows(checkpoint, &all)?;
    let mut laboratory = Laboratory::new(checkpoint, &tokens);
    let layers = laboratory.config.num_hidden_layers;
    let hidden = laboratory.run(0..layers + 1, &embedded)?;
    let size = laboratory.config.hidden_size;
    let width = (seq + steps - 1) * size;
    let last = |row: usize| &hidden[row * width + (seq - 1) * size..(row + 1) * width];
    let last: Vec<f64> = (0..batch).flat_map(|row| last(row).to_vec()).collect();
    laboratory.run(layers + 1..layers + 2, &last).map(Some)
}

/// The generated ids of a file, `[batch][steps]`; none when there are no steps.
fn generated(file: &Activations, batch: usize, seq: usize) -> Result<Option<Vec<Vec<usize>>>> {
    let Some(grid) = file.grid("generated_ids")? else {
        return Ok(None);
    };
    let place = file.path().display();
    ensure!(
        grid.len() == batch && grid[0].len() >= seq,
        "{place}: `generated_ids` does not continue `input_ids`"
    );
    let id = |id: &i64| {
        let known = usize::try_from(*id).ok();
        known.with_context(|| format!("{place}: `generated_ids` holds {id}, which is no token"))
    };
    let row = |row: &Vec<i64>| row[seq..].iter().map(id).collect();
    let ids = grid.iter().map(row).collect::<Result<Vec<Vec<_>>>>()?;
    Ok((!ids[0].is_empty()).then_some(ids))
}

/// Are the observed logits of the steps before the first other token beyond their limit?
fn diverging_logits(
    reference: &Activations,
    logits: Option<&[f64]>,
    limits: &Limits,
    chosen: &[Vec<usize>],
    expected: &[Vec<usize>],
) -> Result<bool> {
    let (Some(logits), Some(wanted)) = (logits, reference.values("step_logits")?) else {
        return Ok(false);
    };
    let steps = chosen[0].len();
    if wanted.len() != logits.len() {
        return Ok(false);
    }
    let vocab = wanted.len() / (chosen.len() * steps);
    let limit = limits.of("step_logits", &wanted);
    for row in 0..chosen.len() {
        let same = (0..steps).take_while(|step| chosen[row][*step] == expected[row][*step]);
        let until = (same.count() + 1).min(steps);
        let range = row * steps * vocab..(row * steps + until) * vocab;
        if Residual::of(&wanted[range.clone()], &logits[range], &limit).ratio > 1.0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prompt and all generated tokens but the last, these `offset` positions further; `None` when that
/// would be before the first position.
fn continued(tokens: &Tokens, steps: usize, offset: i64) -> Option<Tokens> {
    let mut tokens = tokens.clone();
    for (positions, visible) in tokens.positions.iter_mut().zip(&mut tokens.visible) {
        let next = visible.iter().filter(|seen| **seen).count();
        for step in 0..steps - 1 {
            positions.push((next + step).checked_add_signed(offset as isize)?);
            visible.push(true);
        }
    }
    Some(tokens)
}

fn rows(flat: &[usize], steps: usize) -> Vec<Vec<usize>> {
    flat.chunks(steps).map(<[usize]>::to_vec).collect()
}
