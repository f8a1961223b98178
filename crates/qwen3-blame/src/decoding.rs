//! Mistakes that only cached steps have: the prompt's activations are right, the generated tokens are not.

use std::time::Instant;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::Rows;
use qwen3_trace::logits::best;
use qwen3_trace::{Reference, Trace, TraceError};

use crate::cache::{of_full_caches, of_steps};
use crate::explanation::Explanation;
use crate::findings::Finding;
use crate::guesses::not_finite;
use crate::laboratory::Laboratory;
use crate::residual::Residual;
use crate::variant::Variant;
use crate::weights::embedding_rows;
use crate::{Blame, Result};

/// What explains the generated tokens; `None` when those are right. Without explanations, [`Finding::before`]
/// tells whether the right model gives what was observed.
///
/// Steps are recomputed as one pass over prompt and generated tokens, as long as there is time.
///
/// # Errors
/// When a tensor is malformed or a weight cannot be read.
pub fn cached_steps(blame: &Blame) -> Result<Option<Finding>> {
    let Blame { checkpoint, reference, observed, limits, .. } = *blame;
    let logits_differ = blame.ratios().get("step_logits").is_some_and(|ratio| *ratio > 1.0);
    if !logits_differ && blame.verdicts.wrong_token().is_none() {
        return Ok(None);
    }
    let vocab = checkpoint.config().vocab_size;
    let expected = &reference.generated;
    // Ours follow the reference's tokens; somebody else's run follows its own.
    let own = generated(observed, reference, vocab)?;
    let followed = own.as_ref().unwrap_or(expected);
    let (batch, steps) = (expected.len(), followed[0].len().min(expected[0].len()));
    let logits = observed.values("step_logits")?;
    let logits = logits.filter(|logits| logits.len() == batch * steps * vocab);
    let chosen: Vec<usize> = match (&logits, &own) {
        (_, Some(ids)) => ids.iter().flat_map(|row| &row[..steps]).map(|id| *id as usize).collect(),
        (Some(logits), None) => logits.chunks(vocab).map(best).collect(),
        (None, None) => return Ok(None),
    };
    let right = right_steps(checkpoint, reference);
    let compare = |variant: Variant| -> Result<Residual> {
        let predicted = predict(checkpoint, reference, followed, steps, variant)?;
        if let Some(logits) = &logits {
            let limit = limits.of("step_logits", logits);
            return Ok(Residual::of(&predicted, logits, &limit));
        }
        // Two logits that noise can exchange are as good as each other.
        let noise = 2.0 * limits.of("step_logits", &predicted).max_abs();
        let wrong = predicted.chunks(vocab).zip(&chosen);
        let wrong = wrong.filter(|(row, id)| row[best(row)] - row[**id] > noise).count();
        Ok(Residual {
            relative: wrong as f64 / (batch * steps) as f64,
            ratio: if wrong == 0 { 0.0 } else { f64::INFINITY },
        })
    };
    let before = compare(right.clone())?;
    let not_finite = logits.as_ref().and_then(|logits| not_finite(logits, "step_logits"));
    let mut explanations = Vec::from_iter(not_finite);
    let mut given_up = false;
    if before.ratio > 1.0 && explanations.is_empty() {
        let until = Instant::now() + blame.time;
        let rows = continued(&reference.rows, steps);
        let prompt = reference.rows.dims()[1];
        for mistake in of_steps(&rows, prompt).into_iter().chain(of_full_caches(&rows, prompt)) {
            if explanations.iter().any(|known: &Explanation| known.id == mistake.id) {
                continue;
            }
            if Instant::now() >= until {
                given_up = true;
                break;
            }
            let after = compare(mistake.variant(&right))?;
            if !after.explains(before) {
                continue;
            }
            let follow = if logits.is_some() { "tokens follow" } else { "ids could follow" };
            let whole = format!("the generated {follow} if {}", mistake.words);
            explanations.push(Explanation {
                whole: Some(whole),
                ..Explanation::plain(mistake.id, mistake.words, after)
            });
            if logits.is_some() {
                break;
            }
        }
    }
    let layers = blame.scope.of;
    let key = if logits_differ { "step_logits" } else { "generated_ids" };
    // Ids say little: another mistake may lead to the same.
    let all = batch * steps;
    let wrong = (before.relative * all as f64).round();
    let evidence = logits.is_none().then(|| format!("{wrong} of {all} ids"));
    let given_up = given_up && explanations.is_empty();
    let finding = Finding::at_once(key.into(), layers..layers, explanations, before);
    Ok(Some(Finding { evidence, given_up, ..finding }))
}

/// The right logits `[batch, steps, vocab]` of the steps that generate `followed`, `[batch][steps]`, after
/// the reference's prompt.
///
/// # Errors
/// When a weight cannot be read.
pub fn right_logits(
    checkpoint: &Checkpoint,
    reference: &Reference,
    followed: &[Vec<u32>],
) -> Result<Vec<f64>> {
    let right = right_steps(checkpoint, reference);
    predict(checkpoint, reference, followed, followed[0].len(), right)
}

/// What is right where the tokens behind the reference's prompt are read one after the other.
fn right_steps(checkpoint: &Checkpoint, reference: &Reference) -> Variant {
    Variant::right(checkpoint.config()).behind(reference.rows.dims()[1])
}

/// The logits `[batch, steps, vocab]` of `steps` steps along `followed`, as an implementation computes them.
fn predict(
    checkpoint: &Checkpoint,
    reference: &Reference,
    followed: &[Vec<u32>],
    steps: usize,
    variant: Variant,
) -> Result<Vec<f64>> {
    let [_, seq] = reference.rows.dims();
    let rows = continued(&reference.rows, steps);
    let embedded = embedding_rows(checkpoint, &reference.continued_ids(followed, steps))?;
    let mut laboratory = Laboratory::new(checkpoint, &rows).with(variant);
    let layers = laboratory.config.num_hidden_layers;
    let hidden = laboratory.run(0..layers + 1, &embedded)?;
    let size = laboratory.config.hidden_size;
    let rows = hidden.chunks((seq + steps - 1) * size);
    let last: Vec<f64> = rows.flat_map(|row| &row[(seq - 1) * size..]).copied().collect();
    laboratory.run(layers + 1..layers + 2, &last)
}

/// The generated ids of a file that continues the reference's prompt, `[batch][steps]`; none when there are no
/// steps.
pub fn generated(file: &Trace, reference: &Reference, vocab: usize) -> Result<Option<Vec<Vec<u32>>>> {
    let [_, seq] = reference.rows.dims();
    let Some(grid) = file.grid("generated_ids")? else {
        return Ok(None);
    };
    let id = |id: &i64| {
        let known = u32::try_from(*id).ok().filter(|id| (*id as usize) < vocab);
        known.ok_or_else(|| {
            let reason = format!("`generated_ids` holds {id}, which is not below vocab_size {vocab}");
            TraceError::malformed(file.path(), reason)
        })
    };
    let row = |row: &Vec<i64>| row[seq..].iter().map(id).collect();
    let ids = grid.iter().map(row).collect::<Result<Vec<Vec<_>>>>()?;
    Ok((!ids[0].is_empty()).then_some(ids))
}

/// Prompt and all generated tokens but the last.
pub fn continued(rows: &Rows, steps: usize) -> Rows {
    let mut rows = rows.clone();
    for row in 0..rows.positions.len() {
        let next = rows.tokens(row);
        rows.positions[row].extend(next..next + steps - 1);
        rows.visible[row].extend(std::iter::repeat_n(true, steps - 1));
    }
    rows
}
