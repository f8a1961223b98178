//! Compares activations with the reference, tensor by tensor and token by token.

use qwen3_config::{Qwen3Config, Site, Tap};

use crate::logits;
use crate::metrics::{self, Metrics};
use crate::names::{layer_of, sequence_axis};
use crate::step::{self, StepExpectation};
use crate::tokens::{self, TokenVerdict};
use crate::{
    Compared, LayerVerdict, Limits, Mode, Neighbours, Preset, Reference, Tolerance, Trace, TraceError,
    Verdict, Verdicts,
};

/// Values on either side of the worst element.
const NEIGHBOURS: usize = 3;

/// What is compared, and how it is judged.
pub struct Judge<'a> {
    reference: &'a Reference,
    config: &'a Qwen3Config,
    limits: &'a Limits,
    /// Of a layer that is given the reference's input.
    isolated: Limits,
    preset: Option<Preset>,
    tolerance: Option<Tolerance>,
    /// The embeddings of the prompt `[batch, seq, hidden_size]`, where the reference lacks them.
    embedding: Option<Vec<f32>>,
}

impl<'a> Judge<'a> {
    /// By `limits`, or by a preset's fixed thresholds.
    pub fn new(
        reference: &'a Reference,
        config: &'a Qwen3Config,
        limits: &'a Limits,
        preset: Option<Preset>,
    ) -> Self {
        Self {
            reference,
            config,
            limits,
            isolated: limits.behind(1),
            preset,
            tolerance: None,
            embedding: None,
        }
    }

    /// By a tolerance for each element instead, where there is one.
    pub fn with_tolerance(self, tolerance: Option<Tolerance>) -> Self {
        Self { tolerance, ..self }
    }

    /// Do fixed thresholds decide, and not calibrated limits?
    fn fixed(&self) -> bool {
        self.preset.is_some() || self.tolerance.is_some()
    }

    /// Also judges embeddings that the reference lacks: those of its prompt are known all the same,
    /// `[batch, seq, hidden_size]`.
    pub fn with_embedding(self, embedding: Option<Vec<f32>>) -> Self {
        Self { embedding, ..self }
    }

    /// Judges somebody else's activations: all tensors that have an expectation, and the generated ids.
    /// `derived` are expectations that the reference does not have, computed from its layer inputs.
    ///
    /// # Errors
    /// When a tensor is malformed or misshapen.
    pub fn observed(&self, observed: &Trace, derived: Option<&Trace>) -> Result<Verdicts, TraceError> {
        let mut tensors = self.tensors(Mode::Accumulated, observed, derived)?;
        let tokens = match observed.grid("generated_ids")? {
            Some(grid) => tokens::free_run(self.reference, &grid, self.limits)?,
            None => Vec::new(),
        };
        tensors.extend(self.step_logits(observed, &tokens)?);
        Ok(Verdicts { tensors, tokens, steps: Vec::new() })
    }

    /// Every tensor of `observed` in `mode` that has an expectation, in the order of computation; `derived`
    /// as for [`observed`](Self::observed).
    ///
    /// # Errors
    /// When a tensor is malformed or misshapen.
    pub fn tensors(
        &self,
        mode: Mode,
        observed: &Trace,
        derived: Option<&Trace>,
    ) -> Result<Vec<LayerVerdict>, TraceError> {
        let mut verdicts = Vec::new();
        let [batch, seq] = self.reference.rows.dims();
        for site in Site::all(self.config.num_hidden_layers) {
            let key = site.to_string();
            let Some(found) = observed.array(&key)? else {
                continue;
            };
            let expected = match (self.reference.trace.array(&key)?, derived) {
                (None, Some(derived)) => derived.array(&key)?,
                (known, _) => known,
            };
            let rows = self.embedding.as_deref().filter(|_| site.tap == Tap::Embedding);
            let expected = match (&expected, rows) {
                (Some(array), _) => array.floats(&key)?,
                (None, Some(rows)) => rows,
                (None, None) => continue,
            };
            let shape = site.tap.shape(self.config, batch, seq);
            if found.shape != shape {
                return Err(TraceError::Shape {
                    file: observed.path().into(),
                    tensor: key,
                    found: found.shape,
                    expected: shape,
                });
            }
            let mut verdict = self.compare(mode, &key, &shape, found.floats(&key)?, expected);
            verdict.derived = !self.reference.has(site);
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    /// The logits of the cached steps, as far as they followed the reference's tokens: of each sequence up to
    /// the one that chose the first of `tokens` to differ.
    ///
    /// # Errors
    /// When a tensor is malformed, or is of another number of steps.
    pub fn step_logits(
        &self,
        observed: &Trace,
        tokens: &[TokenVerdict],
    ) -> Result<Option<LayerVerdict>, TraceError> {
        let key = "step_logits";
        let Some(expected) = self.reference.trace.array(key)? else {
            return Ok(None);
        };
        observed.check_shape(key, &expected.shape)?;
        let Some(observed) = observed.array(key)? else {
            return Ok(None);
        };
        let (values, wanted) = (observed.floats(key)?, expected.floats(key)?);
        let differs = |token: &&TokenVerdict| i64::from(token.expected) != token.observed;
        let mut followed = vec![usize::MAX; expected.shape[0]];
        for token in tokens.iter().filter(differs) {
            followed[token.row] = followed[token.row].min(token.step);
        }
        let per_row = expected.shape[1] * expected.shape[2];
        let step = |index: usize| index % per_row / expected.shape[2];
        let counted = |index: usize| step(index) <= followed[index / per_row];
        let mode = Mode::Accumulated;
        Ok(Some(self.compare_where(mode, key, &expected.shape, values, wanted, counted)))
    }

    /// Judges the steps of a run in half precision once more, each by what was observed before it: makes failures of
    /// those of `verdicts` that are off by more than honest operations are. Nothing with a preset or a tolerance.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn steps(
        &self,
        observed: &Trace,
        expected: &[StepExpectation],
        verdicts: &mut [LayerVerdict],
    ) -> Result<(), TraceError> {
        if self.fixed() {
            return Ok(());
        }
        step::judge(self.reference, self.limits.dtype(), observed, expected, verdicts)
    }

    /// Error over limit of the tensor of `site`, padding left out of neither.
    pub fn ratio(&self, site: Site, expected: &[f64], observed: &[f64]) -> f64 {
        let [batch, seq] = self.reference.rows.dims();
        let shape = site.tap.shape(self.config, batch, seq);
        let kept = |values| self.reference.rows.without_padding(&shape, site.tap.sequence_axis(), values);
        let (expected, observed) = (kept(expected), kept(observed));
        match self.tolerance {
            Some(tolerance) => tolerance.ratio(&observed, &expected),
            None => self.limits.of(&site.to_string(), &expected).ratio(&observed, &expected),
        }
    }

    /// In patched mode: the logits of the last token, the reference injected behind each layer.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn patched(&self, observed: &Trace) -> Result<Vec<LayerVerdict>, TraceError> {
        let Some(expected) = self.reference.trace.array("logits")? else {
            return Ok(Vec::new());
        };
        let [batch, seq] = self.reference.rows.dims();
        let vocab = self.config.vocab_size;
        let all = expected.floats("logits")?.chunks(seq * vocab);
        let last: Vec<f32> = all.flat_map(|row| &row[(seq - 1) * vocab..]).copied().collect();
        let mut verdicts = Vec::new();
        for layer in 0..self.config.num_hidden_layers {
            let Some(observed) = observed.array(&format!("{layer:02}/last_logits"))? else {
                continue;
            };
            let values = observed.floats("last_logits")?;
            let shape = [batch, 1, vocab];
            let mut verdict = self.compare(Mode::Patched, "logits", &shape, values, &last);
            verdict.layer = Some(layer);
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    /// Each generated token of our own run, whose steps follow the reference's tokens.
    ///
    /// # Errors
    /// When a tensor is malformed or misshapen.
    pub fn tokens(&self, observed: &Trace) -> Result<Vec<TokenVerdict>, TraceError> {
        let key = "step_logits";
        let vocab = self.config.vocab_size;
        observed.check_shape(key, &[self.reference.ids.len(), self.reference.steps(), vocab])?;
        let Some(found) = observed.array(key)? else {
            return Ok(Vec::new());
        };
        let (values, expected) = (found.floats(key)?, self.reference.trace.array(key)?);
        let expected = expected.as_ref().map(|array| array.floats(key)).transpose()?;
        let right = expected.unwrap_or(values).iter();
        let right: Vec<f64> = right.map(|value| f64::from(*value)).collect();
        let limit = self.limits.of(key, &right);
        Ok(tokens::stepped(self.reference, values, expected, vocab, &limit))
    }

    fn compare(
        &self,
        mode: Mode,
        key: &str,
        shape: &[usize],
        observed: &[f32],
        expected: &[f32],
    ) -> LayerVerdict {
        let rows = &self.reference.rows;
        let axis = sequence_axis(key).filter(|axis| shape[*axis] == rows.dims()[1]);
        let counted = |index: usize| axis.is_none_or(|axis| rows.is_token(shape, axis, index));
        self.compare_where(mode, key, shape, observed, expected, counted)
    }

    fn compare_where(
        &self,
        mode: Mode,
        name: &str,
        shape: &[usize],
        observed: &[f32],
        expected: &[f32],
        counted: impl Fn(usize) -> bool,
    ) -> LayerVerdict {
        let kept: Vec<usize> = (0..expected.len()).filter(|index| counted(*index)).collect();
        let wide = |values: &[f32]| kept.iter().map(|index| f64::from(values[*index])).collect::<Vec<_>>();
        let (wide_observed, wide_expected) = (wide(observed), wide(expected));
        let limit = match mode {
            Mode::Isolated => self.isolated.of(name, &wide_expected),
            Mode::Accumulated => self.limits.of(name, &wide_expected),
            // Of the last token alone.
            Mode::Patched => self.limits.whole(name, &wide_expected),
        };
        let compared = Compared { name, shape, observed, expected };
        let (group, places) = limit.worst(&wide_observed, &wide_expected);
        let mut judged = vec![false; expected.len()];
        places.for_each(|place| judged[kept[place]] = true);
        let dtype = self.limits.dtype();
        let metrics = metrics::compare(observed, expected, shape, dtype, &counted);
        let worst = metrics::compare(observed, expected, shape, dtype, |index| judged[index]);
        let calibrated = worst.ratio(&group.limit);
        let metrics = Metrics {
            max_abs: worst.max_abs,
            max_abs_index: worst.max_abs_index,
            rms: worst.rms,
            max_ulp: worst.max_ulp,
            ..metrics
        };
        let ratio = match (self.tolerance, self.preset) {
            (Some(tolerance), _) => tolerance.ratio(&wide_observed, &wide_expected),
            (None, Some(preset)) if metrics.non_finite == 0 => preset.ratio(&metrics),
            _ => calibrated,
        };
        let neighbours = neighbours(&metrics.max_abs_index, &compared);
        let vocabulary = name.ends_with("logits").then(|| {
            let vocab = shape[shape.len() - 1];
            logits::compare(expected, observed, vocab, |token| counted(token * vocab))
        });
        LayerVerdict {
            mode,
            layer: layer_of(name),
            derived: false,
            ratio: ratio.is_finite().then_some(ratio),
            calibrated,
            by_step: None,
            sensitivity: limit.sensitivity().filter(|_| !self.fixed()),
            neighbours,
            kl_divergence: vocabulary.as_ref().and_then(|v| v.kl_divergence),
            top1_agreement: vocabulary.as_ref().map(|v| v.top1_agreement),
            regret_nats: vocabulary.as_ref().and_then(|v| v.regret_nats),
            verdict: {
                let verdict = compared.verdict(metrics, group.floor, group.limit, ratio <= 1.0);
                Verdict { note: verdict.note.or_else(|| limit.note(group)), ..verdict }
            },
        }
    }
}

fn neighbours(worst: &[usize], compared: &Compared) -> Option<Neighbours> {
    let (along, before) = worst.split_last()?;
    let (axis, length) = (before.len(), compared.shape[before.len()]);
    let axes = before.iter().zip(compared.shape);
    let row = axes.fold(0, |flat, (index, size)| flat * size + index);
    let start = along.saturating_sub(NEIGHBOURS);
    let end = length.min(along + NEIGHBOURS + 1);
    let cut = |values: &[f32]| {
        let values = &values[row * length + start..row * length + end];
        let finite = |value: &f32| value.is_finite().then_some(f64::from(*value));
        values.iter().map(finite).collect()
    };
    Some(Neighbours { axis, start, expected: cut(compared.expected), observed: cut(compared.observed) })
}
