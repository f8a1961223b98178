//! Tries the catalogue on a segment: single mistakes, numbers to fit, other layers' weights, pairs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;

use super::catalogue::{Fit, Hypothesis, at_the_end, in_layers, key_offsets};
use super::guesses::scale_words;
use super::residual::Residual;
use super::segment::{Candidate, Laboratory, Segment, StepIndex};
use super::variant::Variant;

/// A segment of more layers than this is not searched for a mistake in one layer only.
pub const MOST_SINGLE_STEPS: usize = 8;
/// When all pairs would take too long, they are tried among this many forms of each mistake, those that leave
/// the least error; and when that would, among this many hypotheses.
const FORMS_FOR_PAIRS: usize = 2;
const BEST_FOR_PAIRS: usize = 8;
/// Multiplications for which all pairs are tried.
const CHEAP: usize = 8_000_000_000;
/// Steps of the search for a fitted number.
const GRID: usize = 64;
const REFINEMENTS: usize = 48;

/// A hypothesis that explains a segment.
#[derive(Clone)]
pub struct Explanation {
    /// The catalogue's id.
    pub id: &'static str,
    /// What follows "matches to .. if".
    pub words: String,
    /// The whole sentence, where it is another.
    pub whole: Option<String>,
    /// What is left of the error.
    pub after: Residual,
    /// The steps it applies to, when not to the whole segment.
    pub steps: Option<Range<StepIndex>>,
    /// The change, for trying it further on.
    pub hypothesis: Option<Arc<Hypothesis>>,
}

impl Explanation {
    /// One without a change to try again.
    pub fn plain(id: &'static str, words: String, after: Residual) -> Self {
        Self {
            id,
            words,
            whole: None,
            after,
            steps: None,
            hypothesis: None,
        }
    }

    /// The layers it is about, of those of its segment.
    pub fn layers(&self, segment: &[usize]) -> Vec<usize> {
        let within = |layer: &&usize| self.steps.as_ref().is_none_or(|s| s.contains(layer));
        segment.iter().filter(within).copied().collect()
    }

    /// The sentence for people.
    pub fn sentence(&self, layers: &[usize], of_reference: bool) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let (place, matches) = match layers {
            [] => ("it".to_string(), "matches"),
            [one] => (format!("layer {one}"), "matches"),
            [first, .., last] => (format!("layers {first} to {last}"), "match"),
        };
        let of = if of_reference {
            "of the reference "
        } else {
            ""
        };
        let left = match self.after.relative == 0.0 {
            true => "exactly".to_string(),
            false => format!("to {:.0e}", self.after.relative),
        };
        format!("{place} {of}{matches} {left} if {}", self.words)
    }
}

/// A trial: some hypotheses at once, in some steps.
struct Trial {
    parts: Vec<Arc<Hypothesis>>,
    steps: Range<StepIndex>,
}

impl Trial {
    fn candidate(&self, right: &Variant) -> Candidate {
        let mut variant = right.clone();
        for part in &self.parts {
            (part.change)(&mut variant);
        }
        Candidate::new(self.steps.clone(), variant)
    }
}

/// What explains `segment`, whose error is `before`; best first, empty when nothing does. `known` are
/// explanations found before, which are tried first; `scaled_embedding` says that the embedding itself
/// was not observed, and may have been scaled.
///
/// # Errors
/// When a weight cannot be read.
pub fn search(
    laboratory: &mut Laboratory,
    segment: &Segment,
    before: Residual,
    known: &[Explanation],
    scaled_embedding: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Explanation>> {
    let mut search = Search {
        laboratory,
        segment,
        before,
        tried: Vec::new(),
    };
    let whole = segment.steps.clone();
    let known: Vec<Arc<Hypothesis>> = known.iter().filter_map(|e| e.hypothesis.clone()).collect();
    let again = known.iter().map(|h| Trial {
        parts: vec![Arc::clone(h)],
        steps: whole.clone(),
    });
    let found = search.attempt(again.collect())?;
    if !found.is_empty() {
        return Ok(found);
    }

    progress("trying the catalogue");
    let singles = search.singles();
    let everywhere = singles.iter().map(|h| Trial {
        parts: vec![Arc::clone(h)],
        steps: whole.clone(),
    });
    let mut found = search.attempt(everywhere.collect())?;
    if scaled_embedding {
        found.extend(search.scaled_embedding()?);
    }
    if found.is_empty() && whole.len() > 1 && whole.len() <= MOST_SINGLE_STEPS {
        let trials = whole.clone().flat_map(|step| {
            singles.iter().map(move |h| Trial {
                parts: vec![Arc::clone(h)],
                steps: step..step + 1,
            })
        });
        found = search.attempt(trials.collect())?;
    }
    if found.is_empty() {
        found = search.tap_by_tap(&singles)?;
    }
    if found.is_empty() {
        found = search.fits()?;
    }
    if found.is_empty() {
        progress("trying other layers' weights");
        found = search.other_layers()?;
    }
    if found.is_empty() {
        progress("trying two mistakes at once");
        found = search.pairs(&known, &singles)?;
    }
    found.sort_by(|a, b| a.after.relative.total_cmp(&b.after.relative));
    Ok(found)
}

struct Search<'s, 'a> {
    laboratory: &'s mut Laboratory<'a>,
    segment: &'s Segment,
    before: Residual,
    /// What each single hypothesis leaves, for choosing pairs.
    tried: Vec<(f64, Arc<Hypothesis>)>,
}

impl Search<'_, '_> {
    /// Every single hypothesis that means something in the segment.
    fn singles(&self) -> Vec<Arc<Hypothesis>> {
        let config = &self.laboratory.config;
        let layers = config.num_hidden_layers;
        let [_, seq] = self.laboratory.tokens.dims();
        let mut list = Vec::new();
        if self.segment.steps.start < layers {
            list.extend(in_layers(config, seq));
            if self
                .segment
                .watched
                .iter()
                .any(|w| w.tap == "self_attn.k_rope")
            {
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
                list.extend(
                    fit.usual()
                        .iter()
                        .map(|value| fit.hypothesis(*value, right)),
                );
            }
        }
        list.retain(|hypothesis| hypothesis.variant(right) != *right);
        list.into_iter().map(Arc::new).collect()
    }

    /// The trials that explain the segment.
    fn attempt(&mut self, trials: Vec<Trial>) -> Result<Vec<Explanation>> {
        let right = self.laboratory.right().clone();
        let candidates: Vec<_> = trials.iter().map(|trial| trial.candidate(&right)).collect();
        let residuals = self.laboratory.residuals(self.segment, &candidates)?;
        let mut found: Vec<Explanation> = Vec::new();
        for (trial, after) in trials.into_iter().zip(residuals) {
            if let [single] = &trial.parts[..] {
                self.tried.push((after.relative, Arc::clone(single)));
            }
            let closely = trial.parts.len() > 1 || trial.parts.iter().any(|part| part.fitted);
            let explains = match closely {
                true => after.explains_closely(self.before),
                false => after.explains(self.before),
            };
            if !explains {
                continue;
            }
            let narrowed = (trial.steps != self.segment.steps).then_some(trial.steps.clone());
            for (index, part) in trial.parts.iter().enumerate() {
                // Of several forms of one mistake, the one that leaves least.
                let rival = found
                    .iter_mut()
                    .find(|e| e.id == part.id && e.steps == narrowed);
                let words = match &trial.parts[..] {
                    [a, b] => {
                        let other = if index == 0 { b } else { a };
                        format!("{} and {}", part.words, other.words)
                    }
                    _ => part.words.clone(),
                };
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
            watched: self.segment.watched.clone(),
        };
        let right = [Candidate::default()];
        let after = self.laboratory.residuals(&scaled, &right)?[0];
        let explains = after.explains(self.before);
        let explanation = || {
            let words = scale_words(factor, hidden);
            Explanation {
                steps: Some(0..0),
                ..Explanation::plain("embedding_scaled", words, after)
            }
        };
        Ok(explains.then(explanation).into_iter().collect())
    }

    /// Searches for the number that explains most, for each mistake that has one.
    fn fits(&mut self) -> Result<Vec<Explanation>> {
        if self.segment.steps.len() > MOST_SINGLE_STEPS {
            return Ok(Vec::new());
        }
        let layers = self.laboratory.config.num_hidden_layers;
        let mut found = Vec::new();
        for fit in Fit::ALL {
            if fit.in_layers_only() && self.segment.steps.start >= layers {
                continue;
            }
            let (low, high) = match fit {
                Fit::Theta => (1e1_f64.ln(), 1e9_f64.ln()),
                // A larger one is as good as no layer, or as another scale of the scores.
                _ => (1e-13_f64.ln(), 1e-1_f64.ln()),
            };
            let points = (0..=GRID).map(|i| low + (high - low) * i as f64 / GRID as f64);
            let points: Vec<f64> = points.collect();
            let left = self.left(fit, &points)?;
            let best = (0..points.len()).min_by(|a, b| left[*a].total_cmp(&left[*b]));
            let best = best.expect("the grid has points");
            let step = points[1] - points[0];
            let value = self.golden(fit, points[best] - step, points[best] + step)?;
            found.extend(self.attempt_fit(fit, value)?);
        }
        Ok(found)
    }

    /// What is left of the error at each of the logarithms `points`.
    fn left(&mut self, fit: Fit, points: &[f64]) -> Result<Vec<f64>> {
        let right = self.laboratory.right().clone();
        let candidates: Vec<_> = points
            .iter()
            .map(|point| {
                let variant = fit.hypothesis(point.exp(), &right).variant(&right);
                Candidate::new(self.segment.steps.clone(), variant)
            })
            .collect();
        let residuals = self.laboratory.residuals(self.segment, &candidates)?;
        Ok(residuals.iter().map(|r| r.relative).collect())
    }

    /// Golden-section search between two logarithms.
    fn golden(&mut self, fit: Fit, mut low: f64, mut high: f64) -> Result<f64> {
        const SECTION: f64 = 0.618_033_988_749_894_8;
        for _ in 0..REFINEMENTS {
            let width = (high - low) * SECTION;
            let inner = [high - width, low + width];
            let left = self.left(fit, &inner)?;
            match left[0] < left[1] {
                true => high = inner[1],
                false => low = inner[0],
            }
        }
        Ok(((low + high) / 2.0).exp())
    }

    /// The fitted number with no more digits than it needs.
    fn attempt_fit(&mut self, fit: Fit, value: f64) -> Result<Vec<Explanation>> {
        let right = self.laboratory.right().clone();
        let mut found = Vec::new();
        for digits in [1, 2, 3, 4, 6, 9] {
            let rounded: f64 = format!("{value:.digits$e}").parse().expect("a number");
            let hypothesis = fit.hypothesis(rounded, &right);
            if hypothesis.variant(&right) == right {
                continue;
            }
            found = self.attempt(vec![Trial {
                parts: vec![Arc::new(hypothesis)],
                steps: self.segment.steps.clone(),
            }])?;
            if !found.is_empty() {
                break;
            }
        }
        Ok(found)
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
        let with = |step: usize, other: usize| {
            let mut variant = right.clone();
            variant.other_layer = Some(other);
            (step..step + 1, variant)
        };
        for step in steps.start..steps.end.min(layers) {
            for other in (0..layers).filter(|other| *other != step) {
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

    /// Several mistakes in one layer whose inside is observed: each is found at the first tensor that the
    /// ones before it do not explain.
    fn tap_by_tap(&mut self, singles: &[Arc<Hypothesis>]) -> Result<Vec<Explanation>> {
        let watched = &self.segment.watched;
        if self.segment.steps.len() > 1 || watched.len() < 2 {
            return Ok(Vec::new());
        }
        let right = self.laboratory.right().clone();
        let mut parts: Vec<Arc<Hypothesis>> = Vec::new();
        let mut explained = 0;
        while explained < watched.len() {
            let until = Segment {
                steps: self.segment.steps.clone(),
                input: self.segment.input.clone(),
                watched: watched[..=explained].to_vec(),
            };
            let trial = |more: Option<&Arc<Hypothesis>>| Trial {
                parts: parts.iter().chain(more).cloned().collect(),
                steps: self.segment.steps.clone(),
            };
            let mut candidates = vec![trial(None).candidate(&right)];
            let possible = singles
                .iter()
                .filter(|h| parts.iter().all(|p| p.id != h.id));
            let possible: Vec<_> = possible.collect();
            candidates.extend(possible.iter().map(|h| trial(Some(h)).candidate(&right)));
            let left = self.laboratory.residuals(&until, &candidates)?;
            if left[0].ratio > 1.0 {
                let best = (1..left.len()).filter(|i| left[*i].explains(left[0]));
                let best = best.min_by(|a, b| left[*a].relative.total_cmp(&left[*b].relative));
                let Some(best) = best else {
                    return Ok(Vec::new());
                };
                parts.push(Arc::clone(possible[best - 1]));
            }
            explained += 1;
        }
        let candidate = Trial {
            parts: parts.clone(),
            steps: self.segment.steps.clone(),
        };
        let after = self
            .laboratory
            .residuals(self.segment, &[candidate.candidate(&right)])?[0];
        let words: Vec<&str> = parts.iter().map(|part| part.words.as_str()).collect();
        let words = words.join(" and ");
        let found = parts.iter().filter(|_| after.explains_closely(self.before));
        let found = found.map(|part| Explanation {
            hypothesis: Some(Arc::clone(part)),
            ..Explanation::plain(part.id, words.clone(), after)
        });
        Ok(found.collect())
    }

    /// Two mistakes at once: each known one with every other, then any two.
    fn pairs(
        &mut self,
        known: &[Arc<Hypothesis>],
        singles: &[Arc<Hypothesis>],
    ) -> Result<Vec<Explanation>> {
        let steps = self.segment.steps.clone();
        let pair = |a: &Arc<Hypothesis>, b: &Arc<Hypothesis>| Trial {
            parts: vec![Arc::clone(a), Arc::clone(b)],
            steps: steps.clone(),
        };
        let with_known = known.iter().flat_map(|a| {
            let others = singles.iter().filter(move |b| b.id != a.id);
            others.map(move |b| (a, b))
        });
        let trials = with_known.map(|(a, b)| pair(a, b)).collect();
        let found = self.attempt(trials)?;
        if !found.is_empty() {
            return Ok(best_pair(found));
        }
        let mut pool: Vec<_> = std::mem::take(&mut self.tried);
        pool.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pool: Vec<_> = pool.into_iter().map(|(_, h)| h).collect();
        let cost = |pool: &[Arc<Hypothesis>]| self.cost() * pool.len() * pool.len() / 2;
        if cost(&pool) > CHEAP {
            let mut forms = BTreeMap::<&str, usize>::new();
            pool.retain(|hypothesis| {
                let forms = forms.entry(hypothesis.id).or_default();
                *forms += 1;
                *forms <= FORMS_FOR_PAIRS
            });
        }
        if cost(&pool) > CHEAP {
            pool.truncate(BEST_FOR_PAIRS);
        }
        let trials = pool.iter().enumerate().flat_map(|(index, a)| {
            let others = pool[index + 1..].iter().filter(|b| b.id != a.id);
            others.map(|b| pair(a, b)).collect::<Vec<_>>()
        });
        let found = self.attempt(trials.collect())?;
        Ok(best_pair(found))
    }

    /// Multiplications of one run of the segment.
    fn cost(&self) -> usize {
        let config = &self.laboratory.config;
        let [batch, seq] = self.laboratory.tokens.dims();
        let queries = config.num_attention_heads * config.head_dim;
        let layer = config.hidden_size * (2 * queries + 3 * config.intermediate_size);
        batch * seq * layer * self.segment.steps.len()
    }
}

/// The two explanations that leave least, which are one pair's.
fn best_pair(mut found: Vec<Explanation>) -> Vec<Explanation> {
    found.truncate(2);
    found
}
