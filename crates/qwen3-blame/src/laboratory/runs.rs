//! Computes part of the model again under each hypothesis, and compares with what was observed there.

use std::ops::Range;
use std::rc::Rc;

use qwen3_config::Tap;

use super::Laboratory;
use crate::Result;
use crate::norms::final_norm;
use crate::probe::{LayerRun, LayerTaps};
use crate::residual::Residual;
use crate::segment::{Candidate, Segment, StepIndex, Watched};
use crate::variant::Variant;
use crate::weights::LayerWeights;

/// Values of candidates' states in memory at a time.
const STATES: usize = 1 << 25;

impl Laboratory<'_> {
    /// Every candidate's residual over all that is watched, in the candidates' order; unknown for mistakes that
    /// there was no time to try.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn residuals(&mut self, segment: &Segment, candidates: &[Candidate]) -> Result<Vec<Residual>> {
        let tokens = segment.input.len() / self.config.hidden_size;
        // The widest state is a layer's output: the last step's is not kept.
        let at_once = STATES / (tokens * self.config.hidden_size);
        let mut residuals = Vec::with_capacity(candidates.len());
        for candidates in candidates.chunks(at_once.max(1)) {
            let mistaken = candidates.iter().any(|candidate| !candidate.parts.is_empty());
            if mistaken && self.is_late() {
                residuals.extend(vec![Residual::UNKNOWN; candidates.len()]);
            } else {
                residuals.extend(self.residuals_of(segment, candidates)?);
            }
        }
        Ok(residuals)
    }

    /// [`residuals`](Self::residuals) of as many candidates as fit in memory.
    fn residuals_of(&mut self, segment: &Segment, candidates: &[Candidate]) -> Result<Vec<Residual>> {
        let mut residuals = vec![Residual::NONE; candidates.len()];
        // Candidates that have been right so far share one state.
        let mut shared = segment.input.clone();
        let mut own: Vec<Option<Vec<f64>>> = vec![None; candidates.len()];
        let mut untried = vec![false; candidates.len()];
        let last = segment.watched.iter().map(|w| w.step).max();
        let last = last.expect("something is watched");
        for step in segment.steps.start..=last {
            let watched: Vec<_> = segment.watched.iter().filter(|w| w.step == step).collect();
            let right = self.right.clone();
            let ends = step == last;
            let (next, shared_residual, run) = self.step(step, &right, &shared, &watched, None, ends)?;
            for (index, candidate) in candidates.iter().enumerate() {
                let variant = candidate.at(step).filter(|variant| **variant != right);
                if untried[index] || (variant.is_some() && self.is_late()) {
                    untried[index] = true;
                    continue;
                }
                let residual = match (&own[index], variant) {
                    (None, None) => shared_residual,
                    (state, variant) => {
                        let variant = variant.unwrap_or(&right);
                        let reuse = run.as_ref().filter(|_| state.is_none());
                        let input = state.as_ref().unwrap_or(&shared);
                        let (next, residual, _) = self.step(step, variant, input, &watched, reuse, ends)?;
                        own[index] = (!ends).then_some(next);
                        residual
                    }
                };
                residuals[index] = residuals[index].worse(residual);
            }
            shared = next;
        }
        let untried = residuals.iter_mut().zip(untried).filter(|(_, untried)| *untried);
        untried.for_each(|(residual, _)| *residual = Residual::UNKNOWN);
        Ok(residuals)
    }

    /// What an implementation of all steps gives for each tensor of the segment, padding left out.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn watched_values(&mut self, segment: &Segment, variant: &Variant) -> Result<Vec<Vec<f64>>> {
        let (mut x, mut found) = (segment.input.clone(), Vec::new());
        for step in segment.steps.clone() {
            let (output, _, run) = self.step(step, variant, &x, &[], None, false)?;
            for watched in segment.watched.iter().filter(|watched| watched.step == step) {
                let values = run.as_ref().map_or(&output[..], |taps| taps.get(watched.site.tap));
                found.push(self.without_padding(watched.site, values));
            }
            x = output;
        }
        Ok(found)
    }

    /// What the right model gives for a tensor of the segment.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn predict(&mut self, segment: &Segment, watched: &Watched) -> Result<Vec<f64>> {
        let input = self.run(segment.steps.start..watched.step, &segment.input)?;
        let right = self.right.clone();
        let (output, _, run) = self.step(watched.step, &right, &input, &[], None, false)?;
        Ok(run.map_or(output, |taps| taps.get(watched.site.tap).to_vec()))
    }

    /// What the right model gives after the last of `steps`.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn run(&mut self, steps: Range<StepIndex>, input: &[f64]) -> Result<Vec<f64>> {
        let right = self.right.clone();
        steps
            .into_iter()
            .try_fold(input.to_vec(), |x, step| Ok(self.step(step, &right, &x, &[], None, false)?.0))
    }

    /// `ends`: what comes behind the last that is watched is not needed.
    fn step(
        &mut self,
        step: StepIndex,
        variant: &Variant,
        input: &[f64],
        watched: &[&Watched],
        right: Option<&LayerTaps>,
        ends: bool,
    ) -> Result<(Vec<f64>, Residual, Option<LayerTaps>)> {
        let layers = self.config.num_hidden_layers;
        if step < layers {
            let weights = self.layer(variant.other_layer.unwrap_or(step))?;
            let reuse = right.map(|taps| (&self.right, taps));
            let variant = self.following(step, variant);
            let until = watched.iter().map(|watched| watched.site.tap).max().filter(|_| ends);
            let until = until.unwrap_or(Tap::LayerOutput);
            let run = LayerRun { right: reuse, ..self.layer_run(&weights, input, until) };
            let taps = run.run(&variant);
            let residual = watched.iter().fold(Residual::NONE, |worst, watched| {
                worst.worse(self.compare(watched, taps.get(watched.site.tap)))
            });
            let output = if ends { Vec::new() } else { taps.get(Tap::LayerOutput).to_vec() };
            return Ok((output, residual, right.is_none().then_some(taps)));
        }
        let output = if step == layers {
            final_norm(input, self.norm()?, variant)
        } else {
            self.head(input, variant)?
        };
        let residual =
            watched.iter().fold(Residual::NONE, |worst, watched| worst.worse(self.compare(watched, &output)));
        Ok((output, residual, None))
    }

    /// The weights of layer `step`, and the right variant's run of it on `input`.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn right_run(&mut self, step: StepIndex, input: &[f64]) -> Result<(Rc<LayerWeights>, LayerTaps)> {
        let weights = self.layer(step)?;
        let right = self.following(step, &self.right);
        let taps = self.layer_run(&weights, input, Tap::LayerOutput).run(&right);
        Ok((weights, taps))
    }

    /// What a variant's attention gives in layer `step` before `o_proj`.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn context(&mut self, step: StepIndex, variant: &Variant, input: &[f64]) -> Result<Vec<f64>> {
        let weights = self.layer(step)?;
        let taps = self.layer_run(&weights, input, Tap::Context).run(variant);
        Ok(taps.get(Tap::Context).to_vec())
    }

    fn compare(&self, watched: &Watched, predicted: &[f64]) -> Residual {
        watched.residual(&self.without_padding(watched.site, predicted))
    }

    /// A layer on `x`, as far as `until`.
    fn layer_run<'r>(&'r self, weights: &'r LayerWeights, x: &'r [f64], until: Tap) -> LayerRun<'r> {
        LayerRun {
            weights,
            config: &self.config,
            rows: self.rows,
            x,
            right: None,
            until,
            seen: self.inside.as_ref(),
        }
    }
}
