//! The walk through the tensors that reference and observation have in common.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use qwen3_config::{Site, Tap};
use qwen3_trace::{LayerVerdict, Limits, Mode, Precision, Scope, StepLimit, TensorLimit, Trace};

use crate::explanation::Explanation;
use crate::findings::Finding;
use crate::guesses::{not_finite, quantised, rounded, scaled};
use crate::laboratory::Laboratory;
use crate::residual::Residual;
use crate::segment::{StepIndex, Watched};
use crate::weights::embedding_rows;
use crate::{Blame, Result, rounding};

#[derive(PartialEq)]
enum Go {
    On,
    Stop,
}

/// Where the walk is, and what it has found.
pub(crate) struct Walk<'a> {
    pub(crate) laboratory: Laboratory<'a>,
    pub(crate) reference: &'a Trace,
    pub(crate) derived: Option<&'a Trace>,
    pub(crate) observed: &'a Trace,
    pub(crate) limits: &'a Limits,
    pub(crate) progress: &'a mut dyn FnMut(&str),
    /// How long causes are looked for.
    time: Duration,
    /// The tokens.
    ids: Vec<u32>,
    /// The error over its limit of every tensor that was judged.
    ratios: HashMap<String, f64>,
    /// Of those that are beyond it only by what was observed before them: how far they may be from what follows from
    /// it.
    by_step: HashMap<String, StepLimit>,
    pub(crate) scope: Scope,
    pub(crate) layers: usize,
    /// Was each layer given the reference's input, and not what came out of the layer before it?
    pub(crate) isolated: bool,
    /// The last known point: what came out of the step before it.
    pub(crate) from: StepIndex,
    pub(crate) input: Vec<f64>,
    /// Is `input` what was observed, and not the reference's?
    pub(crate) inherited: bool,
    pub(crate) embedding_seen: bool,
    /// How far a prediction may be from what was observed: the limits, but those of the half precision that
    /// the observed values are stored in, if they are.
    pub(crate) stored: Limits,
    pub(crate) findings: Vec<Finding>,
    /// What the first error looks like that nothing explains.
    pub(crate) error_shape: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl<'a> Walk<'a> {
    /// At the beginning of the layers to look at.
    pub(crate) fn new(blame: Blame<'a>, ratios: HashMap<String, f64>) -> Result<Self> {
        let (layers, from) = (blame.scope.of, blame.scope.layers.start);
        let reference = &blame.reference.trace;
        let input = match reference.values(&Site::output(from, layers).to_string())? {
            Some(values) => values,
            None => embedding_rows(blame.checkpoint, &blame.reference.flat_ids())?,
        };
        let by_step = |verdict: &LayerVerdict| Some((verdict.verdict.name.clone(), verdict.by_step.clone()?));
        Ok(Self {
            stored: rounding::stored_limits(&blame)?,
            laboratory: Laboratory::new(blame.checkpoint, &blame.reference.rows)
                .until(Instant::now() + blame.time)
                .behind(blame.prompt),
            reference,
            derived: blame.derived,
            observed: blame.observed,
            limits: blame.limits,
            progress: blame.progress,
            time: blame.time,
            ids: blame.reference.flat_ids(),
            ratios,
            by_step: blame.verdicts.of(blame.mode).filter_map(by_step).collect(),
            scope: blame.scope,
            layers,
            isolated: blame.mode == Mode::Isolated,
            from,
            input,
            inherited: false,
            embedding_seen: false,
            findings: Vec::new(),
            error_shape: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Walks to the end, or to where nothing more can be learned.
    pub(crate) fn run(&mut self) -> Result<()> {
        let end = self.scope.layers.end;
        let last = if self.scope.has_end() { end + 2 } else { end };
        // Layers that were run in isolation are our own, and so are the names.
        let shifted = if self.isolated { None } else { self.taps_shifted()? };
        let begun = match shifted {
            Some(goes_on) => goes_on,
            None => self.begin()? == Go::On,
        };
        if begun {
            for end in self.from + 1..=last {
                let point = self.point(end)?;
                if self.laboratory.gave_up() {
                    self.notes.push(format!(
                        "after {} s no more causes were looked for; that was at {} (`--diagnose-for`)",
                        self.time.as_secs_f64(),
                        self.output(end)
                    ));
                    break;
                }
                if point == Go::Stop {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What comes out of the step before `end`.
    pub(crate) fn output(&self, end: StepIndex) -> Site {
        Site::output(end, self.layers)
    }

    /// The elements of a tensor that are no padding.
    pub(crate) fn kept(&self, site: Site, values: &[f64]) -> Vec<f64> {
        self.laboratory.without_padding(site, values)
    }

    /// A tensor of a file, without padding, to be explained.
    fn watched(&self, file: &Trace, step: StepIndex, site: Site) -> Result<Option<Watched>> {
        let key = site.to_string();
        let Some(values) = file.values(&key)? else {
            return Ok(None);
        };
        let values = self.kept(site, &values);
        let limit = self.limit(step, &key, &values);
        Ok(Some(Watched { step, site, values, limit, of_step: None }))
    }

    /// How far a prediction of tensor `key` may be from what was observed.
    pub(crate) fn limit(&self, step: StepIndex, key: &str, observed: &[f64]) -> TensorLimit {
        if self.inherited {
            // What was observed before is known exactly.
            let behind = (step + 1).min(self.layers).saturating_sub(self.from);
            self.stored.behind(behind.max(1)).of(key, observed)
        } else {
            self.stored.of(key, observed)
        }
    }

    /// Is a tensor beyond its limit? `None` when it was not judged.
    pub(crate) fn is_beyond(&self, site: Site) -> Option<bool> {
        self.ratios.get(&site.to_string()).map(|ratio| *ratio > 1.0)
    }

    /// Looks at what goes into the first layer of the walk.
    fn begin(&mut self) -> Result<Go> {
        let site = self.output(self.from);
        let key = site.to_string();
        let observed = if self.isolated { None } else { self.observed.values(&key)? };
        let Some(observed) = observed else {
            return Ok(Go::On);
        };
        self.embedding_seen = self.from == 0;
        if self.is_beyond(site) != Some(true) {
            return Ok(Go::On);
        }
        if self.from == 0 {
            self.say_diverges(site);
            let (o, e) = (self.kept(site, &observed), self.kept(site, &self.input));
            if self.not_finite(&o, &key, 0..0) {
                return Ok(Go::Stop);
            }
            let limit = self.limits.of(&key, &e);
            let before = Residual::of(&e, &o, &limit);
            let mut explanations = rounded(&o, &e, &limit);
            let hidden = self.laboratory.config.hidden_size;
            explanations.extend(scaled(&o, &e, hidden, &limit, before));
            if explanations.is_empty() && self.limits.dtype() == Precision::F32 {
                explanations.extend(quantised(&o, &e, hidden, &limit, before));
            }
            if explanations.is_empty() {
                explanations.extend(self.shifted_rows(site, &o, &limit, before)?);
            }
            if explanations.is_empty() {
                self.unexplained(&o, &e, None, limit.max_abs());
            }
            self.findings.push(Finding::at_once(key, 0..0, explanations, before));
        } else {
            self.notes.push(format!(
                "`{key}`, which goes into the first of these layers, is beyond its limit already"
            ));
        }
        self.input = observed;
        self.inherited = true;
        Ok(Go::On)
    }

    /// `vocabulary_shifted`, when each token has the embedding of an id beside its own.
    fn shifted_rows(
        &mut self,
        site: Site,
        observed: &[f64],
        limit: &TensorLimit,
        before: Residual,
    ) -> Result<Option<Explanation>> {
        let vocab = self.laboratory.config.vocab_size as i64;
        for (by, words) in [(1, "the next id"), (-1, "the id before its own")] {
            let ids = self.ids.iter().map(|id| (i64::from(*id) + by).rem_euclid(vocab) as u32);
            let rows = self.laboratory.embedding(&ids.collect::<Vec<_>>())?;
            let after = Residual::of(&self.kept(site, &rows), observed, limit);
            if after.explains(before) {
                let words = format!("each token has the embedding of {words}");
                return Ok(Some(Explanation::plain("vocabulary_shifted", words, after)));
            }
        }
        Ok(None)
    }

    /// Looks at everything up to the step before `end`, where there is something to look at.
    fn point(&mut self, end: StepIndex) -> Result<Go> {
        let step = end - 1;
        // What goes into the step, if everything was right.
        let right_input = self.reference.values(&self.output(step).to_string())?;
        if self.isolated
            && let Some(input) = &right_input
        {
            self.move_on(step, input.clone(), false);
        }
        let mut of_step = None;
        if let Some(limit) = self.by_step.get(&self.output(end).to_string()).cloned()
            && let Some(input) = self.observed.values(&self.output(step).to_string())?
        {
            self.say_diverges(self.output(end));
            self.notes.push(format!(
                "`{}` is within what a whole run may be off by, but not what follows from what was observed before it",
                self.output(end)
            ));
            self.move_on(step, input, true);
            of_step = Some(limit);
        }
        let mut watched = self.watched_until(self.observed, end)?;
        match watched.last_mut() {
            Some(last) if last.step == step => last.of_step = of_step,
            _ => return Ok(Go::On),
        }
        let key = self.output(end).to_string();
        let observed = self.observed.values(&key)?;
        let steps = self.from..end;
        if !self.inherited {
            let beyond = |watched: &&Watched| self.is_beyond(watched.site) == Some(true);
            match watched.iter().find(beyond) {
                None => {
                    // Taps that are right say that what went into the layer was.
                    let known = observed.is_some().then(|| self.reference.values(&key));
                    let judged = |w: &Watched| w.step == step && self.is_beyond(w.site).is_some();
                    match (known.transpose()?.flatten(), right_input) {
                        (Some(output), _) => self.move_on(end, output, false),
                        (None, Some(input)) if observed.is_none() && watched.iter().any(judged) => {
                            self.move_on(step, input, false);
                        }
                        _ => {}
                    }
                    return Ok(Go::On);
                }
                Some(first) => self.say_diverges(first.site),
            }
        }
        if let Some(output) = self.normed_already(end, &watched, observed.as_deref())? {
            self.move_on(end, output, self.inherited);
            return Ok(Go::On);
        }
        for watched in &watched {
            if self.not_finite(&watched.values, &watched.site.to_string(), steps.clone()) {
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

    /// What should have come out, if that is known.
    pub(crate) fn expected(&self, site: Site) -> Result<Option<Vec<f64>>> {
        let key = site.to_string();
        match (self.reference.values(&key)?, self.derived) {
            (None, Some(derived)) => derived.values(&key),
            (known, _) => Ok(known),
        }
    }

    /// Forgets what was judged by what was observed before it, where that has another's name.
    pub(crate) fn forget_steps(&mut self) {
        for (key, _) in self.by_step.drain() {
            self.ratios.remove(&key);
        }
    }

    pub(crate) fn move_on(&mut self, end: StepIndex, input: Vec<f64>, inherited: bool) {
        (self.from, self.input, self.inherited) = (end, input, inherited);
    }

    /// Every tensor of `file` from the last known point to `end`, in the order of computation. What is computed in
    /// these steps goes the way of that run.
    pub(crate) fn watched_until(&mut self, file: &Trace, end: StepIndex) -> Result<Vec<Watched>> {
        let mut list = Vec::new();
        for step in self.from..end {
            if step < self.layers {
                let sent = self.sent(file, step)?;
                self.laboratory.follow(step, sent);
            }
            let inside = Tap::of_layer().filter(|tap| step < self.layers && *tap != Tap::LayerOutput);
            let inside = inside.map(|tap| Site::inside(step, tap));
            for site in inside.chain([self.output(step + 1)]) {
                list.extend(self.watched(file, step, site)?);
            }
        }
        Ok(list)
    }

    fn say_diverges(&mut self, site: Site) {
        (self.progress)(&format!("{site} diverges; looking for causes"));
    }

    /// Notes values that are not finite; there is nothing to be learned behind them.
    fn not_finite(&mut self, values: &[f64], key: &str, steps: Range<StepIndex>) -> bool {
        let Some(explanation) = not_finite(values, key) else {
            return false;
        };
        self.findings.push(Finding::at_once(key.into(), steps, vec![explanation], Residual::INFINITE));
        true
    }
}
