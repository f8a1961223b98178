//! Compares activations with the reference, tensor by tensor and token by token.

use anyhow::{Result, ensure};
use qwen3_model::Qwen3Config;
use serde::Serialize;

use super::activations::Activations;
use super::job::Mode;
use super::limits::{Limits, Preset};
use super::logits::{self, TokenResult};
use super::reference::Reference;
use crate::check::{is_token, tensor_result};
use crate::metrics;
use crate::protocol::TensorResult;
use crate::tensors::{keys, layer_of, sequence_axis, shape};

/// Values on either side of the worst element.
const NEIGHBOURS: usize = 3;

/// One tensor in one mode against its expectation.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// How the layer got its input.
    pub mode: Mode,
    /// The layer it is in; in patched mode the layer that the reference was injected behind.
    pub layer: Option<usize>,
    /// Is the expectation computed in float64 from the reference's layer input, the file having none?
    pub derived: bool,
    /// The metrics and the verdict.
    #[serde(flatten)]
    pub result: TensorResult,
    /// Error over limit, the worse of largest and rms; at most 1 passes.
    pub ratio: Option<f64>,
    /// Values around the worst element.
    pub neighbours: Option<Neighbours>,
    /// Of logits: what is lost by believing the observed ones, mean over the tokens, in nats.
    pub kl_divergence: Option<f64>,
    /// Of logits: the share of tokens with the same best id.
    pub top1_agreement: Option<f64>,
    /// Of logits: how much less likely the reference finds the observed best id than its own, mean
    /// over the tokens, in nats.
    pub regret_nats: Option<f64>,
}

/// Values along the last axis around the worst element.
#[derive(Clone, Debug, Serialize)]
pub struct Neighbours {
    /// The axis.
    pub axis: usize,
    /// Index of the first value along it.
    pub start: usize,
    /// What was expected.
    pub expected: Vec<Option<f64>>,
    /// What was observed.
    pub observed: Vec<Option<f64>>,
}

/// What is compared, and how it is judged.
pub struct Judge<'a> {
    /// The expectations.
    pub reference: &'a Reference,
    /// The checkpoint's config.
    pub config: &'a Qwen3Config,
    /// How far results of a whole run may be from them.
    pub limits: &'a Limits,
    /// How far those of a layer that is given the reference's input may be.
    pub isolated: &'a Limits,
    /// Fixed thresholds instead.
    pub preset: Option<Preset>,
}

impl Judge<'_> {
    /// Every tensor of `observed` in `mode` that has an expectation, in the order of computation; `derived`
    /// are expectations that the reference does not have, computed from its layer inputs.
    ///
    /// # Errors
    /// When a tensor is malformed or misshapen.
    pub fn tensors(
        &self,
        mode: Mode,
        observed: &Activations,
        derived: Option<&Activations>,
    ) -> Result<Vec<TensorReport>> {
        let mut reports = Vec::new();
        for key in keys(self.config.num_hidden_layers) {
            let Some(observed) = observed.array(&key)? else {
                continue;
            };
            let known = self.reference.activations.array(&key)?;
            let from_layer = known.is_none();
            let derived = derived.filter(|_| from_layer);
            let derived = derived.map_or(Ok(None), |derived| derived.array(&key))?;
            let Some(expected) = known.or(derived) else {
                continue;
            };
            let [batch, seq] = self.reference.tokens.dims();
            let wanted = shape(&key, self.config, batch, seq);
            ensure!(
                observed.shape == wanted,
                "tensor `{key}` has shape {:?}, expected {wanted:?}",
                observed.shape
            );
            let (values, expected) = (observed.floats(&key)?, expected.floats(&key)?);
            let mut report = self.compare(mode, &key, &wanted, values, expected);
            report.derived = from_layer;
            reports.push(report);
        }
        Ok(reports)
    }

    /// The logits of the cached steps, where they followed the reference's tokens.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn step_logits(&self, observed: &Activations) -> Result<Option<TensorReport>> {
        let key = "step_logits";
        let expected = self.reference.activations.array(key)?;
        let (Some(observed), Some(expected)) = (observed.array(key)?, expected) else {
            return Ok(None);
        };
        if observed.shape != expected.shape {
            return Ok(None);
        }
        let (values, wanted) = (observed.floats(key)?, expected.floats(key)?);
        Ok(Some(self.compare(
            Mode::Accumulated,
            key,
            &expected.shape,
            values,
            wanted,
        )))
    }

    /// In patched mode: the logits of the last token, the reference injected behind each layer.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn patched(&self, observed: &Activations) -> Result<Vec<TensorReport>> {
        let Some(expected) = self.reference.activations.array("logits")? else {
            return Ok(Vec::new());
        };
        let [batch, seq] = self.reference.tokens.dims();
        let vocab = self.config.vocab_size;
        let all = expected.floats("logits")?;
        let rows = (0..batch).map(|row| (row * seq + seq - 1) * vocab);
        let last: Vec<f32> = rows
            .flat_map(|start| all[start..start + vocab].to_vec())
            .collect();
        let mut reports = Vec::new();
        for layer in 0..self.config.num_hidden_layers {
            let Some(observed) = observed.array(&format!("{layer:02}/last_logits"))? else {
                continue;
            };
            let shape = [batch, 1, vocab];
            let values = observed.floats("last_logits")?;
            let mut report = self.compare(Mode::Patched, "logits", &shape, values, &last);
            report.layer = Some(layer);
            reports.push(report);
        }
        Ok(reports)
    }

    fn compare(
        &self,
        mode: Mode,
        key: &str,
        shape: &[usize],
        observed: &[f32],
        expected: &[f32],
    ) -> TensorReport {
        let mask = &self.reference.tokens.visible;
        let axis = sequence_axis(key).filter(|axis| shape[*axis] == mask[0].len());
        let counted = |index: usize| axis.is_none_or(|axis| is_token(mask, shape, axis, index));
        let kept: Vec<f64> = (0..expected.len())
            .filter(|index| counted(*index))
            .map(|index| f64::from(expected[index]))
            .collect();
        let limits = match mode {
            Mode::Isolated => self.isolated,
            Mode::Accumulated | Mode::Patched => self.limits,
        };
        let floor = limits.floor(key, &kept);
        let dtype = limits.dtype();
        let limit = metrics::limit(floor, expected, dtype, counted);
        let metrics = metrics::compare(observed, expected, shape, dtype, counted);
        let ratio = match self.preset {
            Some(preset) => preset.ratio(&metrics),
            None => over(metrics.max_abs, limit.max_abs).max(over(metrics.rms, limit.rms)),
        };
        let passes = metrics.non_finite == 0 && ratio <= 1.0;
        let neighbours = neighbours(&metrics.max_abs_index, shape, observed, expected);
        let vocabulary = key.ends_with("logits").then(|| {
            let vocab = shape[shape.len() - 1];
            logits::compare(expected, observed, vocab, |token| counted(token * vocab))
        });
        let shape = shape.to_vec();
        let mut result = tensor_result(key, shape, metrics, floor, limit, observed, expected);
        result.pass = passes;
        if observed.iter().any(|value| !value.is_finite()) {
            result.note = Some("not finite".into());
        }
        TensorReport {
            mode,
            layer: layer_of(key),
            derived: false,
            ratio: ratio.is_finite().then_some(ratio),
            neighbours,
            kl_divergence: vocabulary.as_ref().and_then(|v| v.kl_divergence),
            top1_agreement: vocabulary.as_ref().map(|v| v.top1_agreement),
            regret_nats: vocabulary.as_ref().and_then(|v| v.regret_nats),
            result,
        }
    }

    /// Each generated token of our own run, whose steps follow the reference's tokens.
    ///
    /// # Errors
    /// When a tensor is malformed or misshapen.
    pub fn tokens(&self, observed: &Activations) -> Result<Vec<TokenResult>> {
        let Some(observed) = observed.array("step_logits")? else {
            return Ok(Vec::new());
        };
        let expected = self.reference.activations.array("step_logits")?;
        let steps = self.reference.generated[0].len();
        let values = observed.floats("step_logits")?;
        let vocab = self.config.vocab_size;
        ensure!(
            observed.shape == [self.reference.ids.len(), steps, vocab],
            "`step_logits` has shape {:?}",
            observed.shape
        );
        let expected = match &expected {
            Some(array) if array.shape == observed.shape => Some(array.floats("step_logits")?),
            _ => None,
        };
        let right = expected.unwrap_or(values).iter();
        let right: Vec<f64> = right.map(|value| f64::from(*value)).collect();
        let limit = self.limits.of("step_logits", &right);
        Ok(logits::tokens(
            self.reference,
            values,
            expected,
            vocab,
            &limit,
        ))
    }

    /// Each generated token of somebody else's free run, up to the first that differs in each row.
    ///
    /// # Errors
    /// When the ids are malformed or do not continue the prompt.
    pub fn observed_tokens(&self, observed: &Activations) -> Result<Vec<TokenResult>> {
        let Some(grid) = observed.grid("generated_ids")? else {
            return Ok(Vec::new());
        };
        logits::observed_tokens(self.reference, &grid, self.limits)
    }
}

fn over(error: f64, limit: f64) -> f64 {
    let ratio = if error == 0.0 { 0.0 } else { error / limit };
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn neighbours(
    worst: &[usize],
    shape: &[usize],
    observed: &[f32],
    expected: &[f32],
) -> Option<Neighbours> {
    let axis = shape.len().checked_sub(1)?;
    let along = *worst.get(axis)?;
    let row = worst[..axis]
        .iter()
        .zip(shape)
        .fold(0, |flat, (index, size)| flat * size + index);
    let start = along.saturating_sub(NEIGHBOURS);
    let end = shape[axis].min(along + NEIGHBOURS + 1);
    let cut = |values: &[f32]| {
        let values = &values[row * shape[axis] + start..row * shape[axis] + end];
        let finite = |value: &f32| value.is_finite().then_some(f64::from(*value));
        values.iter().map(finite).collect()
    };
    Some(Neighbours {
        axis,
        start,
        expected: cut(expected),
        observed: cut(observed),
    })
}
