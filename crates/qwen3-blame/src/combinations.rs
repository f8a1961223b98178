//! Several mistakes at once, between two points of the walk.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Result;

use crate::explanation::{Explanation, Trial};
use crate::hypothesis::Hypothesis;
use crate::search::Search;
use crate::segment::Segment;

/// When all pairs would take too long, they are tried among this many forms of each mistake, those that leave
/// the least error; and when that would, among this many hypotheses.
const FORMS_FOR_PAIRS: usize = 2;
const BEST_FOR_PAIRS: usize = 8;
/// Multiplications that a search may take where it could do with less.
pub const CHEAP: usize = 8_000_000_000;

impl Search<'_, '_> {
    /// Several mistakes in one layer whose inside is observed: each is found at the first tensor that the
    /// ones before it do not explain.
    pub(crate) fn tap_by_tap(&mut self, singles: &[Arc<Hypothesis>]) -> Result<Vec<Explanation>> {
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
                seen: None,
            };
            let trial = |more: Option<&Arc<Hypothesis>>| Trial {
                parts: parts.iter().chain(more).cloned().collect(),
                steps: self.segment.steps.clone(),
            };
            let mut candidates = vec![trial(None).candidate(&right)];
            let possible = singles.iter().filter(|h| parts.iter().all(|p| p.id != h.id));
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
        let candidate = Trial { parts: parts.clone(), steps: self.segment.steps.clone() };
        let after = self.laboratory.residuals(self.segment, &[candidate.candidate(&right)])?[0];
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
    pub(crate) fn pairs(
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
    pub(crate) fn cost(&self) -> usize {
        let config = &self.laboratory.config;
        let [batch, seq] = self.laboratory.rows.dims();
        batch * seq * config.layer_active_parameters(0) * self.segment.steps.len()
    }
}

/// The two explanations that leave least, which are one pair's.
fn best_pair(mut found: Vec<Explanation>) -> Vec<Explanation> {
    found.truncate(2);
    found
}
