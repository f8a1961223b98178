//! The walk through the tensors that reference and observation have in common.

use std::ops::Range;

use anyhow::Result;
use qwen3_import::Checkpoint;

use super::decoding::cached_steps;
use super::probe::{Tokens, dot};
use super::residual::{Residual, without_padding};
use super::search::{Explanation, search};
use super::segment::{Candidate, Laboratory, Segment, StepIndex, Watched};
use super::weights::embedding_rows;
use super::{Cause, Diagnosis, Divergence, error_shape, rounding};
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
    /// What came out.
    pub observed: &'a Activations,
    /// How far apart they may be.
    pub limits: &'a Limits,
    /// Told what is going on.
    pub progress: &'a mut dyn FnMut(&str),
}

/// Finds the first divergence and its causes.
///
/// # Errors
/// When a file or a weight cannot be read, or a tensor has the wrong shape.
pub fn diagnose(blame: Blame) -> Result<Diagnosis> {
    let layers = blame.checkpoint.config().num_hidden_layers;
    let embedding = match blame.reference.values("embedding_output")? {
        Some(values) => values,
        None => embedding_rows(blame.checkpoint, blame.ids)?,
    };
    let steps = match prompt_agrees(&blame)? {
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
    let mut walk = Walk {
        laboratory: Laboratory::new(blame.checkpoint, blame.tokens),
        reference: blame.reference,
        observed: blame.observed,
        limits: blame.limits,
        progress: blame.progress,
        layers,
        from: 0,
        input: embedding,
        inherited: false,
        embedding_seen: false,
        findings: Vec::new(),
        diagnosis: Diagnosis::default(),
    };
    if let Some(steps) = steps {
        let key = steps.divergence.tensor.clone();
        walk.diagnosis.first_divergence = Some(steps.divergence);
        walk.findings.push(Finding {
            key,
            steps: layers..layers,
            explanations: steps.explanations,
            before: steps.before,
            of_reference: false,
        });
    } else if walk.embedding()? == Go::On {
        for end in 1..=layers + 2 {
            if walk.point(end)? == Go::Stop {
                break;
            }
        }
    }
    Ok(walk.finish())
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

/// What explains the tensors between two points.
struct Finding {
    /// The last of the tensors.
    key: String,
    steps: Range<StepIndex>,
    explanations: Vec<Explanation>,
    before: Residual,
    /// Is it the reference that is explained, the observation being what the checkpoint gives?
    of_reference: bool,
}

struct Walk<'a> {
    laboratory: Laboratory<'a>,
    reference: &'a Activations,
    observed: &'a Activations,
    limits: &'a Limits,
    progress: &'a mut dyn FnMut(&str),
    layers: usize,
    /// The last known point: what came out of the step before it.
    from: StepIndex,
    input: Vec<f64>,
    /// Is `input` what was observed, and not the reference's?
    inherited: bool,
    embedding_seen: bool,
    findings: Vec<Finding>,
    diagnosis: Diagnosis,
}

impl Walk<'_> {
    /// The key of what comes out of the step before `end`.
    fn key(&self, end: StepIndex) -> String {
        match end {
            0 => "embedding_output".into(),
            _ if end <= self.layers => format!("layer_{:02}_output", end - 1),
            _ if end == self.layers + 1 => "final_norm_output".into(),
            _ => "logits".into(),
        }
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
        let limit = self.limits.of(key, &values);
        Ok(Some(Watched {
            step,
            tap: tap.into(),
            key: key.into(),
            values,
            limit,
        }))
    }

    fn embedding(&mut self) -> Result<Go> {
        let key = "embedding_output";
        let Some(observed) = self.observed.values(key)? else {
            return Ok(Go::On);
        };
        self.embedding_seen = true;
        let (o, e) = (self.kept(key, &observed), self.kept(key, &self.input));
        let limit = self.limits.of(key, &e);
        let before = Residual::of(&e, &o, &limit);
        if before.ratio <= 1.0 {
            return Ok(Go::On);
        }
        self.diverges(None, key);
        if self.not_finite(&o, key, 0..0) {
            return Ok(Go::Stop);
        }
        let factor = dot(&o, &e) / dot(&e, &e);
        let scaled: Vec<f64> = e.iter().map(|e| e * factor).collect();
        let after = Residual::of(&scaled, &o, &limit);
        let mut explanations = rounded(&o, &e, &limit);
        if after.explains(before) && factor.is_finite() {
            explanations.push(Explanation::plain(
                "embedding_scaled",
                scale_words(factor, self.laboratory.config.hidden_size),
                after,
            ));
        }
        if explanations.is_empty() {
            self.unexplained(&o, &e, None, limit.max_abs);
        }
        self.findings.push(Finding {
            key: key.into(),
            steps: 0..0,
            explanations,
            before,
            of_reference: false,
        });
        self.input = observed;
        self.inherited = true;
        Ok(Go::On)
    }

    /// Looks at everything up to the step before `end`, where there is something to look at.
    fn point(&mut self, end: StepIndex) -> Result<Go> {
        let key = self.key(end);
        let Some(observed) = self.observed.values(&key)? else {
            return Ok(Go::On);
        };
        let reference = self.reference.values(&key)?;
        if reference.is_none() && !self.inherited {
            return Ok(Go::On);
        }
        let watched = self.watched_until(self.observed, end)?;
        let steps = self.from..end;
        if !self.inherited {
            let diverging = self.first_beyond_limit(&watched)?;
            let Some((step, diverging)) = diverging else {
                self.move_on(end, reference.expect("checked above"), false);
                return Ok(Go::On);
            };
            self.diverges((step < self.layers).then_some(step), &diverging);
        }
        for watched in &watched {
            if self.not_finite(&watched.values, &watched.key, steps.clone()) {
                return Ok(Go::Stop);
            }
        }
        self.explain(steps, watched, reference.as_deref())?;
        self.move_on(end, observed, true);
        Ok(Go::On)
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
            if let Some(expected) = self.reference.values(&watched.key)? {
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
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad == 0 {
            return false;
        }
        let first = values.iter().position(|value| !value.is_finite());
        let first = first.expect("one is not finite");
        let words = format!(
            "`{key}` holds {bad} values that are not finite, the first {} at flat index {first}",
            values[first]
        );
        let infinite = Residual {
            relative: f64::INFINITY,
            ratio: f64::INFINITY,
        };
        self.findings.push(Finding {
            key: key.into(),
            steps,
            explanations: vec![Explanation {
                whole: Some(words),
                ..Explanation::plain("non_finite", String::new(), infinite)
            }],
            before: infinite,
            of_reference: false,
        });
        true
    }

    fn explain(
        &mut self,
        steps: Range<StepIndex>,
        watched: Vec<Watched>,
        reference: Option<&[f64]>,
    ) -> Result<()> {
        let mut segment = Segment {
            steps: steps.clone(),
            input: self.input.clone(),
            watched,
        };
        let right = &[Candidate::default()];
        let mut before = self.laboratory.residuals(&segment, right)?[0];
        let mut of_reference = false;
        if before.ratio <= 1.0 {
            if self.inherited {
                // Only passed on.
                return Ok(());
            }
            // What was observed is what this checkpoint gives: it is the reference that differs.
            segment.watched = self.watched_until(self.reference, steps.end)?;
            before = self.laboratory.residuals(&segment, right)?[0];
            of_reference = true;
        }
        let last = segment.watched.last().expect("the end is watched").clone();
        let predicted = self.laboratory.run(steps.clone(), &segment.input)?;
        let predicted = self.kept(&last.key, &predicted);
        let mut explanations = rounded(&last.values, &predicted, &last.limit);
        if let Some(reference) = reference.filter(|_| explanations.is_empty() && !of_reference) {
            let reference = self.kept(&last.key, reference);
            explanations = rounded(&last.values, &reference, &last.limit);
        }
        if explanations.is_empty() {
            let known: Vec<_> = self
                .findings
                .iter()
                .flat_map(|f| &f.explanations)
                .cloned()
                .collect();
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
            let heads = (last.tap == "self_attn.context")
                .then_some(self.laboratory.config.num_attention_heads);
            self.unexplained(&last.values, &predicted, heads, last.limit.max_abs);
            if let Some(guess) = self.another_head(&steps, &last.values, &predicted) {
                explanations.push(guess);
            }
        }
        self.findings.push(Finding {
            key: self.key(steps.end),
            steps,
            explanations,
            before,
            of_reference,
        });
        Ok(())
    }

    /// A tied head whose logits have nothing to do with the embedding.
    fn another_head(
        &self,
        steps: &Range<StepIndex>,
        observed: &[f64],
        predicted: &[f64],
    ) -> Option<Explanation> {
        let config = &self.laboratory.config;
        let only_head = steps.start >= self.layers && steps.end == self.layers + 2;
        if !config.tie_word_embeddings || !only_head {
            return None;
        }
        let cosine =
            dot(observed, predicted) / (dot(observed, observed) * dot(predicted, predicted)).sqrt();
        (cosine.abs() < 0.5).then(|| Explanation {
            whole: Some(format!(
                "the logits are made with another head than the embedding: what goes into the head is right, \
                 and its logits have a cosine of {cosine:.3} with the embedding's"
            )),
            ..Explanation::plain(
                "head_untied",
                String::new(),
                Residual {
                    relative: f64::NAN,
                    ratio: f64::NAN,
                },
            )
        })
    }

    fn unexplained(&mut self, o: &[f64], e: &[f64], heads: Option<usize>, limit: f64) {
        if self.diagnosis.error_shape.is_empty() {
            let tokens = self.laboratory.tokens;
            self.diagnosis.error_shape = error_shape::describe(o, e, tokens, heads, limit);
        }
    }

    /// Puts the findings together: a cause for each mistake, with all the layers it was found in.
    fn finish(mut self) -> Diagnosis {
        // With the finding that each was first in, and how many it is in.
        let mut causes: Vec<(usize, usize, Cause)> = Vec::new();
        let mut unexplained = Vec::new();
        for (index, finding) in self.findings.iter().enumerate() {
            let layers: Vec<_> = finding.steps.clone().filter(|s| *s < self.layers).collect();
            if finding.explanations.is_empty() {
                unexplained.push(finding.key.as_str());
            }
            for explanation in &finding.explanations {
                let layers = explanation.layers(&layers);
                let known = causes.iter_mut().find(|known| known.2.id == explanation.id);
                if let Some((_, count, cause)) = known {
                    *count += 1;
                    if explanation.id == "layer_permuted" {
                        let more = explanation.sentence(&layers, finding.of_reference);
                        cause.explanation = format!("{}; {more}", cause.explanation);
                    }
                    cause.layers.extend(layers);
                    cause.layers.sort_unstable();
                    cause.layers.dedup();
                    continue;
                }
                let finite = |value: f64| value.is_finite().then_some(value);
                causes.push((
                    index,
                    1,
                    Cause {
                        id: explanation.id,
                        explanation: explanation.sentence(&layers, finding.of_reference),
                        residual_before: finite(finding.before.relative),
                        residual_after: finite(explanation.after.relative),
                        layers,
                    },
                ));
            }
        }
        // By the place where each is first found, then by how many tensors each explains, then by what
        // is left of the error.
        causes.sort_by(|(a_first, a_count, a), (b_first, b_count, b)| {
            let left = |cause: &Cause| cause.residual_after.unwrap_or(f64::INFINITY);
            let place = a_first.cmp(b_first).then(b_count.cmp(a_count));
            place.then(left(a).total_cmp(&left(b)))
        });
        let mut causes: Vec<Cause> = causes.into_iter().map(|(.., cause)| cause).collect();
        for cause in &mut causes {
            if cause.layers.len() > 1 && cause.id != "layer_permuted" {
                let layers = error_shape::ranges(&cause.layers);
                cause.explanation = format!("{} (found in layers {layers})", cause.explanation);
            }
        }
        self.diagnosis.causes = causes;
        if self.findings.iter().any(|finding| finding.of_reference) {
            self.diagnosis.notes.push(
                "what was observed is what this checkpoint gives; the reference was made with another \
                 implementation, config or checkpoint"
                    .into(),
            );
        }
        if !unexplained.is_empty() {
            self.diagnosis.notes.push(format!(
                "nothing in the catalogue explains the error that enters at {}",
                unexplained.join(", ")
            ));
        }
        self.diagnosis
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

/// The words for embeddings that are multiplied by `factor`.
pub fn scale_words(factor: f64, hidden: usize) -> String {
    let root = (hidden as f64).sqrt();
    match (factor / root - 1.0).abs() < 1e-3 {
        true => format!("embeddings are multiplied by sqrt(hidden_size) = {root:.4}"),
        false => format!("embeddings are multiplied by {factor:.6}"),
    }
}

/// `dtype_rounding`, when `observed` is `expected` rounded to a half precision.
fn rounded(observed: &[f64], expected: &[f64], limit: &crate::metrics::Limit) -> Vec<Explanation> {
    let Some(dtype) = rounding::format_of(observed) else {
        return Vec::new();
    };
    let share = rounding::share_rounded(observed, expected, dtype, limit.max_abs);
    if share < 0.99 {
        return Vec::new();
    }
    let round = |value: &f64| rounding::round(*value, dtype);
    let predicted: Vec<f64> = expected.iter().map(round).collect();
    let after = Residual::of(&predicted, observed, limit);
    vec![Explanation::plain(
        "dtype_rounding",
        format!("the right values are rounded to {dtype}"),
        after,
    )]
}
