//! The walk through the tensors that reference and observation have in common.

use std::ops::Range;

use anyhow::Result;
use qwen3_import::Checkpoint;

use super::decoding::cached_steps;
use super::findings::{Finding, conclude};
use super::guesses::{not_finite, rounded, scaled};
use super::probe::Tokens;
use super::residual::{Residual, without_padding};
use super::segment::{Laboratory, StepIndex, Watched};
use super::weights::embedding_rows;
use super::{Diagnosis, Divergence, rounding};
use crate::manifest::TestDType;
use crate::tensors::{TAPS, keys, output_key, tap_key};
use crate::verify::{Activations, Limits};

/// What a diagnosis needs.
pub struct Blame<'a> {
    /// The checkpoint at hand, for explanations.
    pub checkpoint: &'a mut Checkpoint,
    /// Positions and padding of the prompt.
    pub tokens: &'a Tokens,
    /// The prompt, `[batch * seq]`.
    pub ids: &'a [u32],
    /// What should have come out.
    pub reference: &'a Activations,
    /// What passes through the reference's layers, as far as it does not say so itself.
    pub derived: Option<&'a Activations>,
    /// What came out.
    pub observed: &'a Activations,
    /// How far apart they may be.
    pub limits: &'a Limits,
    /// The layers to look at.
    pub range: Range<usize>,
    /// Was each layer given the reference's input, and not what came out of the layer before it?
    pub isolated: bool,
    /// Told what is going on.
    pub progress: &'a mut dyn FnMut(&str),
}

/// Finds the first divergence and its causes.
///
/// # Errors
/// When a file or a weight cannot be read, or a tensor has the wrong shape.
pub fn diagnose(blame: Blame) -> Result<Diagnosis> {
    let layers = blame.checkpoint.config().num_hidden_layers;
    let whole = blame.range == (0..layers) && !blame.isolated;
    let steps = match whole && prompt_agrees(&blame)? {
        true => cached_steps(
            blame.checkpoint,
            blame.tokens,
            blame.ids,
            blame.reference,
            blame.observed,
            blame.limits,
        )?,
        false => None,
    };
    let (from, end) = (blame.range.start, blame.range.end);
    let stored = stored_limits(&blame)?;
    let mut walk = Walk {
        reference: blame.reference,
        derived: blame.derived,
        observed: blame.observed,
        limits: blame.limits,
        progress: blame.progress,
        layers,
        isolated: blame.isolated,
        from,
        input: match blame.reference.values(&output_key(from, layers))? {
            Some(values) => values,
            None => embedding_rows(blame.checkpoint, blame.ids)?,
        },
        laboratory: Laboratory::new(blame.checkpoint, blame.tokens),
        inherited: false,
        embedding_seen: false,
        stored,
        findings: Vec::new(),
        diagnosis: Diagnosis::default(),
    };
    if let Some(steps) = steps {
        let key = steps.divergence.tensor.clone();
        walk.diagnosis.first_divergence = Some(steps.divergence);
        if steps.before.ratio <= 1.0 {
            let note = "the observed steps are what this checkpoint gives; the reference's are not";
            walk.diagnosis.notes.push(note.into());
        } else {
            walk.findings.push(Finding {
                key,
                steps: layers..layers,
                explanations: steps.explanations,
                before: steps.before,
                of_reference: false,
            });
        }
    } else if !walk.shifted_names()? && walk.begin()? == Go::On {
        let last = if end == layers { layers + 2 } else { end };
        for end in from + 1..=last {
            if walk.point(end)? == Go::Stop {
                break;
            }
        }
    }
    conclude(&walk.findings, layers, &mut walk.diagnosis);
    Ok(walk.diagnosis)
}

/// The limits of the half precision that every observed tensor is stored in; without one, those of the run.
fn stored_limits(blame: &Blame) -> Result<Limits> {
    // A run in half precision is held to its own limits already.
    let mut formats = match blame.limits.dtype() {
        TestDType::F32 => vec![TestDType::Bf16, TestDType::F16],
        _ => Vec::new(),
    };
    for key in keys(blame.checkpoint.config().num_hidden_layers) {
        if formats.is_empty() {
            break;
        }
        if let Some(values) = blame.observed.values(&key)? {
            formats.retain(|dtype| rounding::fits(&values, *dtype));
        }
    }
    match formats.first() {
        Some(dtype) => blame.limits.in_dtype(blame.reference, *dtype),
        None => Ok(blame.limits.clone()),
    }
}

/// Are all tensors of the prompt that both files have within their limits?
fn prompt_agrees(blame: &Blame) -> Result<bool> {
    let config = blame.checkpoint.config();
    for key in keys(config.num_hidden_layers) {
        let pair = (blame.reference.values(&key)?, blame.observed.values(&key)?);
        if let (Some(expected), Some(observed)) = pair {
            let kept = |x: &[f64]| without_padding(&key, blame.tokens, config.head_dim, x);
            let (expected, observed) = (kept(&expected), kept(&observed));
            let limit = blame.limits.of(&key, &expected);
            if Residual::of(&expected, &observed, &limit).ratio > 1.0 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[derive(PartialEq)]
enum Go {
    On,
    Stop,
}

/// Where the walk is, and what it has found.
pub(super) struct Walk<'a> {
    pub(super) laboratory: Laboratory<'a>,
    pub(super) reference: &'a Activations,
    pub(super) derived: Option<&'a Activations>,
    pub(super) observed: &'a Activations,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a mut dyn FnMut(&str),
    pub(super) layers: usize,
    pub(super) isolated: bool,
    /// The last known point: what came out of the step before it.
    pub(super) from: StepIndex,
    pub(super) input: Vec<f64>,
    /// Is `input` what was observed, and not the reference's?
    pub(super) inherited: bool,
    pub(super) embedding_seen: bool,
    /// How far a prediction may be from what was observed: the limits, but those of the half precision that
    /// the observed values are stored in, if they are.
    pub(super) stored: Limits,
    pub(super) findings: Vec<Finding>,
    pub(super) diagnosis: Diagnosis,
}

impl Walk<'_> {
    pub(super) fn key(&self, end: StepIndex) -> String {
        output_key(end, self.layers)
    }

    pub(super) fn kept(&self, key: &str, values: &[f64]) -> Vec<f64> {
        let head_dim = self.laboratory.config.head_dim;
        without_padding(key, self.laboratory.tokens, head_dim, values)
    }

    /// A tensor of a file, without padding, to be explained.
    fn watched(
        &self,
        file: &Activations,
        step: StepIndex,
        tap: &str,
        key: &str,
    ) -> Result<Option<Watched>> {
        let Some(values) = file.values(key)? else {
            return Ok(None);
        };
        let values = self.kept(key, &values);
        let limit = match self.inherited {
            // What was observed before is known exactly.
            true => {
                let behind = (step + 1).min(self.layers).saturating_sub(self.from);
                self.stored.behind(behind.max(1)).of(key, &values)
            }
            false => self.stored.of(key, &values),
        };
        Ok(Some(Watched {
            step,
            tap: tap.into(),
            key: key.into(),
            values,
            limit,
        }))
    }

    /// Looks at what goes into the first layer of the walk.
    fn begin(&mut self) -> Result<Go> {
        let key = self.key(self.from);
        let observed = match self.isolated {
            true => None,
            false => self.observed.values(&key)?,
        };
        let Some(observed) = observed else {
            return Ok(Go::On);
        };
        self.embedding_seen = self.from == 0;
        let (o, e) = (self.kept(&key, &observed), self.kept(&key, &self.input));
        let limit = self.limits.of(&key, &e);
        let before = Residual::of(&e, &o, &limit);
        if before.ratio <= 1.0 {
            return Ok(Go::On);
        }
        if self.from == 0 {
            self.diverges(None, &key);
            if self.not_finite(&o, &key, 0..0) {
                return Ok(Go::Stop);
            }
            let mut explanations = rounded(&o, &e, &limit);
            let hidden = self.laboratory.config.hidden_size;
            explanations.extend(scaled(&o, &e, hidden, &limit, before));
            if explanations.is_empty() {
                self.unexplained(&o, &e, None, limit.max_abs);
            }
            self.findings.push(Finding {
                key: key.clone(),
                steps: 0..0,
                explanations,
                before,
                of_reference: false,
            });
        }
        if self.from > 0 {
            self.diagnosis.notes.push(format!(
                "`{key}`, which goes into the first of these layers, is beyond its limit already"
            ));
        }
        self.input = observed;
        self.inherited = true;
        Ok(Go::On)
    }

    /// Looks at everything up to the step before `end`, where there is something to look at.
    fn point(&mut self, end: StepIndex) -> Result<Go> {
        let step = end - 1;
        // What goes into the step, if everything was right.
        let right_input = self.reference.values(&self.key(step))?;
        if self.isolated
            && let Some(input) = &right_input
        {
            self.move_on(step, input.clone(), false);
        }
        let watched = self.watched_until(self.observed, end)?;
        if watched.last().is_none_or(|watched| watched.step != step) {
            return Ok(Go::On);
        }
        let key = self.key(end);
        let observed = self.observed.values(&key)?;
        let steps = self.from..end;
        if !self.inherited {
            match self.first_beyond_limit(&watched)? {
                None => {
                    // Taps that are right say that what went into the layer was.
                    let known = observed.is_some().then(|| self.reference.values(&key));
                    match (known.transpose()?.flatten(), right_input) {
                        (Some(output), _) => self.move_on(end, output, false),
                        (None, Some(input))
                            if observed.is_none() && self.judged(&watched, step)? =>
                        {
                            self.move_on(step, input, false);
                        }
                        _ => {}
                    }
                    return Ok(Go::On);
                }
                Some((step, key)) => self.diverges((step < self.layers).then_some(step), &key),
            }
        }
        if let Some(output) = self.normed_already(end, &watched, observed.as_deref())? {
            self.move_on(end, output, self.inherited);
            return Ok(Go::On);
        }
        for watched in &watched {
            if self.not_finite(&watched.values, &watched.key, steps.clone()) {
                return Ok(Go::Stop);
            }
        }
        let only_passed_on = self.explain(steps, watched)?;
        match observed {
            // In isolation the next point begins with the reference again.
            Some(_) if self.isolated => {}
            Some(output) => self.move_on(end, output, true),
            None if only_passed_on => {}
            // There is nothing to go on from.
            None => return Ok(Go::Stop),
        }
        Ok(Go::On)
    }

    /// Was each layer's output saved under the name of the next, as the entries of Transformers' `hidden_states`
    /// are numbered?
    fn shifted_names(&mut self) -> Result<bool> {
        let mut shifted = 0;
        for step in 1..=self.layers {
            let (name, before) = (self.key(step), self.key(step - 1));
            let pair = (self.observed.values(&name)?, self.expected(&before)?);
            if let (Some(observed), Some(expected)) = pair {
                let (o, e) = (self.kept(&name, &observed), self.kept(&before, &expected));
                if Residual::of(&e, &o, &self.limits.of(&before, &e)).ratio > 1.0 {
                    return Ok(false);
                }
                shifted += 1;
            }
        }
        if shifted < 2 {
            return Ok(false);
        }
        self.diagnosis.notes.push(
            "every layer's output is saved under the name of the next: `layer_00_output` is the embedding, as \
             the first of Transformers' `hidden_states` is"
                .into(),
        );
        Ok(true)
    }

    /// What the last layer gives, when it was observed with the final norm applied, as the last entry of
    /// Transformers' `hidden_states` has it.
    fn normed_already(
        &mut self,
        end: StepIndex,
        watched: &[Watched],
        observed: Option<&[f64]>,
    ) -> Result<Option<Vec<f64>>> {
        let (Some(observed), Some(last)) = (observed, watched.last()) else {
            return Ok(None);
        };
        if end != self.layers {
            return Ok(None);
        }
        let output = self.laboratory.run(self.from..end, &self.input)?;
        let normed = self.laboratory.run(end..end + 1, &output)?;
        let key = self.key(end + 1);
        let (normed, observed) = (self.kept(&key, &normed), self.kept(&key, observed));
        let limit = self.limits.of(&key, &normed);
        if Residual::of(&normed, &observed, &limit).ratio > 1.0 {
            return Ok(None);
        }
        self.diagnosis.notes.push(format!(
            "`{}` was observed with the final norm applied, as the last of Transformers' `hidden_states` has it",
            last.key
        ));
        Ok(Some(output))
    }

    /// What should have come out as tensor `key`, if that is known.
    pub(super) fn expected(&self, key: &str) -> Result<Option<Vec<f64>>> {
        match (self.reference.values(key)?, self.derived) {
            (None, Some(derived)) => derived.values(key),
            (known, _) => Ok(known),
        }
    }

    /// Is it known what one of the tensors of `step` should be?
    fn judged(&self, watched: &[Watched], step: StepIndex) -> Result<bool> {
        for watched in watched.iter().filter(|watched| watched.step == step) {
            if self.expected(&watched.key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn move_on(&mut self, end: StepIndex, input: Vec<f64>, inherited: bool) {
        (self.from, self.input, self.inherited) = (end, input, inherited);
    }

    /// Every tensor of `file` from the last known point to `end`, in the order of computation.
    pub(super) fn watched_until(&self, file: &Activations, end: StepIndex) -> Result<Vec<Watched>> {
        let mut list = Vec::new();
        for step in self.from..end {
            if step < self.layers {
                for tap in TAPS {
                    let key = tap_key(step, tap);
                    list.extend(self.watched(file, step, tap, &key)?);
                }
            }
            let key = self.key(step + 1);
            let tap = if step < self.layers { "output" } else { &key };
            list.extend(self.watched(file, step, tap, &key)?);
        }
        Ok(list)
    }

    /// The first of `watched` that is not the reference's.
    fn first_beyond_limit(&self, watched: &[Watched]) -> Result<Option<(StepIndex, String)>> {
        for watched in watched {
            if let Some(expected) = self.expected(&watched.key)? {
                let expected = self.kept(&watched.key, &expected);
                let limit = self.limits.of(&watched.key, &expected);
                if Residual::of(&expected, &watched.values, &limit).ratio > 1.0 {
                    return Ok(Some((watched.step, watched.key.clone())));
                }
            }
        }
        Ok(None)
    }

    fn diverges(&mut self, layer: Option<usize>, key: &str) {
        (self.progress)(&format!("{key} diverges; looking for causes"));
        let first = &mut self.diagnosis.first_divergence;
        *first = first.take().or(Some(Divergence {
            layer,
            tensor: key.into(),
        }));
    }

    /// Notes values that are not finite; there is nothing to be learned behind them.
    fn not_finite(&mut self, values: &[f64], key: &str, steps: Range<StepIndex>) -> bool {
        let Some(explanation) = not_finite(values, key) else {
            return false;
        };
        self.findings.push(Finding {
            key: key.into(),
            steps,
            explanations: vec![explanation],
            before: Residual::INFINITE,
            of_reference: false,
        });
        true
    }
}
