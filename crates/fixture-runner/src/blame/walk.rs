//! The walk through the tensors that reference and observation have in common.

use std::ops::Range;

use anyhow::Result;
use qwen3_import::Checkpoint;

use super::decoding::cached_steps;
use super::findings::{Finding, conclude};
use super::guesses::{another_head, not_finite, rounded, scaled};
use super::probe::Tokens;
use super::residual::{Residual, without_padding};
use super::search::{Explanation, search};
use super::segment::{Candidate, Laboratory, Segment, StepIndex, Watched};
use super::weights::embedding_rows;
use super::{Diagnosis, Divergence, error_shape, rounding};
use crate::check::sequence_axis;
use crate::manifest::TestDType;
use crate::verify::{Activations, Limits, keys};

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
        input: match blame.reference.values(&key_before(from, layers))? {
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
    } else if walk.begin()? == Go::On {
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
    let mut formats = vec![TestDType::Bf16, TestDType::F16];
    for key in keys(blame.checkpoint.config().num_hidden_layers) {
        if let Some(values) = blame.observed.values(&key)? {
            formats.retain(|dtype| rounding::fits(&values, *dtype));
        }
    }
    match formats.first() {
        Some(dtype) if blame.limits.dtype() == TestDType::F32 => {
            blame.limits.in_dtype(blame.reference, *dtype)
        }
        _ => Ok(blame.limits.clone()),
    }
}

/// The key of what comes out of the step before `end`, in a model of `layers` layers.
fn key_before(end: StepIndex, layers: usize) -> String {
    match end {
        0 => "embedding_output".into(),
        _ if end <= layers => format!("layer_{:02}_output", end - 1),
        _ if end == layers + 1 => "final_norm_output".into(),
        _ => "logits".into(),
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

struct Walk<'a> {
    laboratory: Laboratory<'a>,
    reference: &'a Activations,
    derived: Option<&'a Activations>,
    observed: &'a Activations,
    limits: &'a Limits,
    progress: &'a mut dyn FnMut(&str),
    layers: usize,
    isolated: bool,
    /// The last known point: what came out of the step before it.
    from: StepIndex,
    input: Vec<f64>,
    /// Is `input` what was observed, and not the reference's?
    inherited: bool,
    embedding_seen: bool,
    /// How far a prediction may be from what was observed: the limits, but those of the half precision that
    /// the observed values are stored in, if they are.
    stored: Limits,
    findings: Vec<Finding>,
    diagnosis: Diagnosis,
}

impl Walk<'_> {
    fn key(&self, end: StepIndex) -> String {
        key_before(end, self.layers)
    }

    fn kept(&self, key: &str, values: &[f64]) -> Vec<f64> {
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
    fn expected(&self, key: &str) -> Result<Option<Vec<f64>>> {
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
    fn watched_until(&self, file: &Activations, end: StepIndex) -> Result<Vec<Watched>> {
        let mut list = Vec::new();
        for step in self.from..end {
            if step < self.layers {
                for tap in TAPS {
                    let key = format!("layer_{step:02}.{tap}");
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

    /// Looks for what explains `watched`, in `steps`. Says whether the error was only passed on.
    fn explain(&mut self, steps: Range<StepIndex>, watched: Vec<Watched>) -> Result<bool> {
        let mut segment = Segment {
            steps: steps.clone(),
            input: self.input.clone(),
            watched,
        };
        let right = &[Candidate::default()];
        let mut before = self.laboratory.residuals(&segment, right)?[0];
        let mut last = segment.watched.last().expect("the end is watched").clone();
        let mut predicted = self.predicted(&segment, &last)?;
        let mut explanations = self.rounded(&last, &predicted)?;
        let of_reference = explanations.is_empty() && before.ratio <= 1.0;
        if of_reference {
            if self.inherited {
                return Ok(true);
            }
            // What was observed is what this checkpoint gives: it is the reference that differs.
            segment.watched = self.watched_until(self.reference, steps.end)?;
            let Some(end) = segment.watched.last() else {
                return Ok(false);
            };
            last = end.clone();
            before = self.laboratory.residuals(&segment, right)?[0];
            predicted = self.predicted(&segment, &last)?;
            if before.ratio <= 1.0 {
                self.diagnosis.notes.push(format!(
                    "observation and reference are each within the limits of what this checkpoint gives at {}, \
                     on either side: rounding on the edge of the limit",
                    self.key(steps.end)
                ));
                return Ok(false);
            }
        }
        if explanations.is_empty() {
            let known = self.findings.iter().flat_map(|f| &f.explanations);
            let known: Vec<Explanation> = known.cloned().collect();
            let scaled = self.from == 0 && !self.embedding_seen;
            explanations = search(
                &mut self.laboratory,
                &segment,
                before,
                &known,
                scaled,
                self.progress,
            )?;
        }
        if explanations.is_empty() {
            self.describe(&segment, &last, &predicted)?;
            let only_head = steps.start >= self.layers && steps.end == self.layers + 2;
            if self.laboratory.config.tie_word_embeddings && only_head {
                explanations.extend(another_head(&last.values, &predicted));
            }
        }
        self.findings.push(Finding {
            key: last.key,
            steps,
            explanations,
            before,
            of_reference,
        });
        Ok(false)
    }

    /// `dtype_rounding`, when a tensor is what it should be, or what follows from what was observed before it,
    /// rounded.
    fn rounded(&self, watched: &Watched, predicted: &[f64]) -> Result<Vec<Explanation>> {
        // A run in half precision gives nothing else.
        if self.limits.dtype() != TestDType::F32 {
            return Ok(Vec::new());
        }
        let limit = self.limits.of(&watched.key, &watched.values);
        let found = rounded(&watched.values, predicted, &limit);
        match self.expected(&watched.key)? {
            Some(reference) if found.is_empty() => {
                let reference = self.kept(&watched.key, &reference);
                Ok(rounded(&watched.values, &reference, &limit))
            }
            _ => Ok(found),
        }
    }

    /// What the right model gives for one of the tensors of a segment, padding left out.
    fn predicted(&mut self, segment: &Segment, watched: &Watched) -> Result<Vec<f64>> {
        let predicted = self.laboratory.predict(segment, watched)?;
        Ok(self.kept(&watched.key, &predicted))
    }

    /// Describes the error that nothing explains: of the first tensor that differs from what the right
    /// model gives, or of the last where that one is laid out by heads.
    fn describe(&mut self, segment: &Segment, last: &Watched, predicted: &[f64]) -> Result<()> {
        for watched in &segment.watched {
            if sequence_axis(&watched.key) != Some(1) {
                continue;
            }
            let right = self.predicted(segment, watched)?;
            if Residual::of(&right, &watched.values, &watched.limit).ratio > 1.0 {
                let heads = self.heads(&watched.tap);
                self.unexplained(&watched.values, &right, heads, watched.limit.max_abs);
                return Ok(());
            }
        }
        let heads = self.heads(&last.tap);
        self.unexplained(&last.values, predicted, heads, last.limit.max_abs);
        Ok(())
    }

    /// How many heads the features of a tap make, where they do.
    fn heads(&self, tap: &str) -> Option<usize> {
        let config = &self.laboratory.config;
        match tap {
            "self_attn.q_proj" | "self_attn.q_norm" | "self_attn.context" => {
                Some(config.num_attention_heads)
            }
            "self_attn.k_proj" | "self_attn.k_norm" | "self_attn.v_proj" => {
                Some(config.num_key_value_heads)
            }
            _ => None,
        }
    }

    fn unexplained(&mut self, o: &[f64], e: &[f64], heads: Option<usize>, limit: f64) {
        if self.diagnosis.error_shape.is_empty() {
            let tokens = self.laboratory.tokens;
            self.diagnosis.error_shape = error_shape::describe(o, e, tokens, heads, limit);
        }
    }
}

/// The names of the taps inside a layer before its output, in the order of computation.
pub const TAPS: [&str; 12] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.q_rope",
    "self_attn.k_rope",
    "self_attn.context",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp",
];
