//! Tries the catalogue on a segment: single mistakes, numbers to fit, other layers' weights, pairs.

use std::sync::Arc;

use qwen3_config::{Precision, Tap};

use crate::Result;

use crate::cache::of_steps;
use crate::catalogue::{at_the_end, in_layers, key_offsets, of_adapter};
use crate::explanation::{Explanation, Trial};
use crate::guesses::scale_words;
use crate::hypothesis::{Fit, Hypothesis};
use crate::laboratory::Laboratory;
use crate::precision::{is_beside, is_precision};
use crate::residual::Residual;
use crate::segment::{Candidate, Segment};
use crate::sinks;

/// A segment of more layers than this is not searched for a mistake in one layer only.
pub const MOST_SINGLE_STEPS: usize = 8;
/// What explains `segment`, whose error is `before`; best first, empty when nothing does. `known` are
/// explanations found before, which are tried first; `scaled_embedding` says that the embedding itself
/// was not observed, and may have been scaled; `dtype` is the one that the run is said to be in.
///
/// # Errors
/// When a weight cannot be read.
pub fn search(
    laboratory: &mut Laboratory,
    segment: &Segment,
    before: Residual,
    known: &[Explanation],
    scaled_embedding: bool,
    dtype: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Explanation>> {
    let mut search = Search { laboratory, segment, before, tried: Vec::new() };
    let whole = segment.steps.clone();
    let known: Vec<Arc<Hypothesis>> = known.iter().filter_map(|e| e.hypothesis.clone()).collect();
    let again = known.iter().map(|h| Trial { parts: vec![Arc::clone(h)], steps: whole.clone() });
    let found = search.attempt(again.collect())?;
    if !found.is_empty() {
        return Ok(found);
    }
    if known.iter().any(|hypothesis| hypothesis.id == sinks::ID) {
        // Each layer has learned its own.
        let found = search.sinks()?;
        if !found.is_empty() {
            return Ok(found);
        }
    }

    let formats = formats_together(&known);
    let singles = search.singles();
    let mut found = Vec::new();
    // Where single operations can be looked at, that is quick, and to the bit.
    let formats_first = dtype == Precision::F32 && (search.sees_inside() || !formats.is_empty());
    if formats_first {
        progress("trying other precisions");
        found = search.formats(&formats)?;
    }
    if found.is_empty() {
        progress("trying the catalogue");
        let everywhere = singles.iter().map(|h| Trial { parts: vec![Arc::clone(h)], steps: whole.clone() });
        found = search.attempt(everywhere.collect())?;
    }
    if scaled_embedding {
        found.extend(search.scaled_embedding()?);
    }
    if found.is_empty() && whole.len() > 1 && whole.len() <= MOST_SINGLE_STEPS {
        let trials = whole.clone().flat_map(|step| {
            singles.iter().map(move |h| Trial { parts: vec![Arc::clone(h)], steps: step..step + 1 })
        });
        found = search.attempt(trials.collect())?;
    }
    if found.is_empty() {
        found = search.tap_by_tap(&singles)?;
    }
    if found.is_empty() {
        found = search.along()?;
    }
    if found.is_empty() {
        found = search.fits()?;
    }
    if found.is_empty() {
        found = search.expert_order()?;
    }
    if found.is_empty() {
        progress("trying other layers' weights");
        found = search.other_layers()?;
    }
    if found.is_empty() && dtype == Precision::F32 && !formats_first {
        progress("trying other precisions");
        found = search.formats(&formats)?;
    }
    if found.is_empty() {
        progress("trying single heads, chunks and slots");
        found = search.rare()?;
    }
    if found.is_empty() {
        found = search.sinks()?;
    }
    if found.is_empty() {
        progress("trying two mistakes at once");
        found = search.pairs(&known, &singles)?;
    }
    found.sort_by(|a, b| a.after.relative.total_cmp(&b.after.relative));
    search.bound(&mut found)?;
    Ok(found)
}

/// Of explanations that were found before, the formats that lie beside each other: one of each kind, the latest.
fn formats_together(known: &[Arc<Hypothesis>]) -> Vec<Arc<Hypothesis>> {
    let mut parts: Vec<Arc<Hypothesis>> = Vec::new();
    for format in known.iter().rev().filter(|known| is_precision(known.id)) {
        if parts.iter().all(|part| is_beside(part, format)) {
            parts.push(Arc::clone(format));
        }
    }
    parts
}

/// A search under way.
pub struct Search<'s, 'a> {
    pub(crate) laboratory: &'s mut Laboratory<'a>,
    pub(crate) segment: &'s Segment,
    pub(crate) before: Residual,
    /// What each single hypothesis leaves, for choosing pairs.
    pub(crate) tried: Vec<(f64, Arc<Hypothesis>)>,
}

impl Search<'_, '_> {
    /// Every single hypothesis that means something in the segment.
    fn singles(&self) -> Vec<Arc<Hypothesis>> {
        let config = &self.laboratory.config;
        let layers = config.num_hidden_layers;
        let [_, seq] = self.laboratory.rows.dims();
        let mut list = Vec::new();
        if self.segment.steps.start < layers {
            let rows = self.laboratory.rows;
            list.extend(self.laboratory.prompt().into_iter().flat_map(|from| of_steps(rows, from)));
            list.extend(in_layers(config, seq));
            if let Some(adapter) = self.laboratory.adapter() {
                list.extend(of_adapter(adapter, config));
            }
            if self.segment.watched.iter().any(|w| w.site.tap == Tap::KRope) {
                list.extend(key_offsets(seq));
            }
        }
        if self.segment.steps.end > layers {
            let stored = self.laboratory.has_stored_head();
            list.extend(at_the_end(config, stored));
        }
        let right = self.laboratory.right();
        for fit in Fit::ALL {
            if !fit.in_layers_only() || self.segment.steps.start < layers {
                list.extend(fit.usual().iter().map(|value| fit.hypothesis(*value, right)));
            }
        }
        list.retain(|hypothesis| hypothesis.variant(right) != *right);
        list.into_iter().map(Arc::new).collect()
    }

    /// The trials that explain the segment.
    pub(crate) fn attempt(&mut self, trials: Vec<Trial>) -> Result<Vec<Explanation>> {
        let before = self.before;
        self.those(trials, |trial, after| {
            let mistakes = trial.parts.iter().filter(|part| !is_precision(part.id)).count();
            let closely = mistakes > 1 || trial.parts.iter().any(|part| part.fit.is_some());
            match mistakes {
                0 => after.explains_as_rounding(before),
                _ if closely => after.explains_closely(before),
                _ => after.explains(before),
            }
        })
    }

    /// The trials that explain the segment by what they leave, best first.
    pub(crate) fn those(
        &mut self,
        trials: Vec<Trial>,
        explains: impl Fn(&Trial, Residual) -> bool,
    ) -> Result<Vec<Explanation>> {
        let right = self.laboratory.right().clone();
        let candidates: Vec<_> = trials.iter().map(|trial| trial.candidate(&right)).collect();
        let residuals = self.laboratory.residuals(self.segment, &candidates)?;
        let mut found: Vec<Explanation> = Vec::new();
        for (trial, after) in trials.into_iter().zip(residuals) {
            if let [single] = &trial.parts[..] {
                self.tried.push((after.relative, Arc::clone(single)));
            }
            if !explains(&trial, after) {
                continue;
            }
            let narrowed = (trial.steps != self.segment.steps).then_some(trial.steps.clone());
            for (index, part) in trial.parts.iter().enumerate() {
                // Of several forms of one mistake, the one that leaves least.
                let rival = found.iter_mut().find(|e| e.id == part.id && e.steps == narrowed);
                let others = trial.parts.iter().enumerate().filter(|(other, _)| *other != index);
                let words: Vec<&str> = std::iter::once(part)
                    .chain(others.map(|(_, part)| part))
                    .map(|part| &part.words[..])
                    .collect();
                let words = words.join(" and ");
                let explanation = Explanation {
                    steps: narrowed.clone(),
                    hypothesis: Some(Arc::clone(part)),
                    ..Explanation::plain(part.id, words, after)
                };
                match rival {
                    Some(rival) if rival.after.relative <= after.relative => {}
                    Some(rival) => *rival = explanation,
                    None => found.push(explanation),
                }
            }
        }
        found.sort_by(|a, b| a.after.relative.total_cmp(&b.after.relative));
        Ok(found)
    }

    /// `embedding_scaled`, when the first thing observed is a layer's output.
    fn scaled_embedding(&mut self) -> Result<Vec<Explanation>> {
        let hidden = self.laboratory.config.hidden_size;
        let factor = (hidden as f64).sqrt();
        let scaled = Segment {
            steps: self.segment.steps.clone(),
            input: self.segment.input.iter().map(|x| x * factor).collect(),
            seen: None,
            watched: self.segment.watched.clone(),
        };
        let right = [Candidate::default()];
        let after = self.laboratory.residuals(&scaled, &right)?[0];
        let explains = after.explains(self.before);
        let explanation = || {
            let words = scale_words(factor, hidden);
            Explanation { steps: Some(0..0), ..Explanation::plain("embedding_scaled", words, after) }
        };
        Ok(explains.then(explanation).into_iter().collect())
    }

    /// `layer_permuted`: a layer with the weights of another, which has those of the first or its own.
    fn other_layers(&mut self) -> Result<Vec<Explanation>> {
        let layers = self.laboratory.config.num_hidden_layers;
        let steps = self.segment.steps.clone();
        let mut found = Vec::new();
        if steps.len() > MOST_SINGLE_STEPS {
            return Ok(found);
        }
        let right = self.laboratory.right().clone();
        // Dense blocks and experts have other tensors.
        let sparse = self.laboratory.config.sparse.clone();
        let has_experts = |layer| sparse.as_ref().is_some_and(|sparse| sparse.contains(layer));
        let with = |step: usize, other: usize| {
            let mut variant = right.clone();
            variant.other_layer = Some(other);
            (step..step + 1, variant)
        };
        for step in steps.start..steps.end.min(layers) {
            for other in
                (0..layers).filter(|other| *other != step && has_experts(*other) == has_experts(step))
            {
                let mut trials = vec![vec![with(step, other)]];
                // The last two of a model are swapped more often than one is there twice.
                if other > step && steps.contains(&other) {
                    trials.insert(0, vec![with(step, other), with(other, step)]);
                }
                for parts in trials {
                    let words = match parts.len() {
                        1 => format!("layer {step} has layer {other}'s weights"),
                        _ => format!("layers {step} and {other} have each other's weights"),
                    };
                    let candidate = [Candidate { parts }];
                    let after = self.laboratory.residuals(self.segment, &candidate)?[0];
                    if after.explains(self.before) {
                        found.push(Explanation::plain("layer_permuted", words, after));
                    }
                }
            }
        }
        Ok(found)
    }
}
