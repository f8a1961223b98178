//! Which formats explain the error of an f32 run: one, or a few beside each other.

use std::sync::Arc;

use qwen3_config::Tap;

use crate::Result;
use crate::explanation::{Explanation, Trial};
use crate::hypothesis::Hypothesis;
use crate::precision::{is_beside, of_formats, place, shows_at};
use crate::residual::Residual;
use crate::search::Search;
use crate::segment::{Candidate, Segment};

/// Formats that are found at once, at most.
const MOST: usize = 3;
/// One format more has to leave such a share of what is left without it.
const LESS: f64 = 0.3;
/// So many times its limit is what a rounding leaves that went the other way: no format more is looked for.
const CLOSE: f64 = 8.0;
/// A part of what is wrong leaves less than such a share of the error.
const HELPS: f64 = 0.97;
/// So many sets are gone on with.
const BEAM: usize = 3;
/// Sets that leave no more than so many times what the best leaves compute the same.
const SAME: f64 = 1.5;
/// So many of them are kept.
const ALTERNATIVES: usize = 6;

/// Formats beside each other, and what they leave.
#[derive(Clone)]
struct Together {
    parts: Vec<Arc<Hypothesis>>,
    after: Residual,
}

impl Together {
    /// One of each in the order of the catalogue, each with what is beside it.
    fn explanations(mut self) -> Vec<Explanation> {
        self.parts.sort_by_key(|part| place(part.id));
        let explanation = |part: &Arc<Hypothesis>| {
            let others: Vec<&str> =
                self.parts.iter().map(|other| other.id).filter(|other| *other != part.id).collect();
            let beside = if others.is_empty() { "" } else { ", beside " };
            let words = format!("{}{beside}{}", part.words, others.join(" and "));
            let hypothesis = Some(Arc::clone(part));
            Explanation { hypothesis, ..Explanation::plain(part.id, words, self.after) }
        };
        self.parts.iter().map(explanation).collect()
    }
}

/// Those that leave least, best first: where several compute the same, all of them.
fn best(mut sets: Vec<Together>) -> Vec<Together> {
    sets.sort_by(|a, b| a.after.relative.total_cmp(&b.after.relative));
    let limit = sets.first().map_or(0.0, |first| SAME * first.after.relative);
    sets.retain(|set| set.after.relative <= limit);
    sets.truncate(ALTERNATIVES);
    sets
}

impl Search<'_, '_> {
    /// Is the inside of the segment's layer observed, so that operations can be looked at one by one?
    pub(crate) fn sees_inside(&self) -> bool {
        let Segment { steps, watched, .. } = self.segment;
        steps.len() == 1 && watched.len() > 1 && steps.start < self.laboratory.config.num_hidden_layers
    }

    /// The formats that explain the error of an f32 run, up to three: `known` ones, if those do, or those that leave least.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub(crate) fn formats(&mut self, known: &[Arc<Hypothesis>]) -> Result<Vec<Explanation>> {
        // A rounding that went the other way makes more of them go the other way behind it: the bits of what went in
        // matter.
        let Some(input) = self.segment.seen.clone() else {
            return self.formats_of(known);
        };
        let (steps, watched) = (self.segment.steps.clone(), self.segment.watched.clone());
        let segment = Segment { steps, input, seen: None, watched };
        let (laboratory, before) = (&mut *self.laboratory, self.before);
        Search { laboratory, segment: &segment, before, tried: Vec::new() }.formats_of(known)
    }

    fn formats_of(&mut self, known: &[Arc<Hypothesis>]) -> Result<Vec<Explanation>> {
        let found = if self.sees_inside() {
            // Each operation by itself, on what was observed to go into it.
            let seen = self.laboratory.observed_inside(&self.segment.watched);
            self.laboratory.go_on_from(Some(seen));
            let found = self.known_or(known, |search, all, _| search.tensor_by_tensor(all));
            self.laboratory.go_on_from(None);
            found?
        } else {
            self.known_or(known, |search, all, before| {
                let start = Together { parts: Vec::new(), after: before };
                Ok(search.added(search.segment, start, all)?.into_iter().next())
            })?
        };
        Ok(found.map(Together::explanations).unwrap_or_default())
    }

    /// The known formats, or what `find` finds among all, if they explain the error; `find` is told what is left without any.
    fn known_or(
        &mut self,
        known: &[Arc<Hypothesis>],
        find: impl FnOnce(&mut Self, &[Arc<Hypothesis>], Residual) -> Result<Option<Together>>,
    ) -> Result<Option<Together>> {
        let before = self.laboratory.residuals(self.segment, &[Candidate::default()])?[0];
        let explains = |found: &Together| found.after.explains_as_rounding(before);
        if !known.is_empty() {
            let again = self.left_by(self.segment, vec![known.to_vec()])?;
            if let Some(again) = again.into_iter().find(explains) {
                return Ok(Some(again));
            }
        }
        let right = self.laboratory.right().clone();
        let all = of_formats(self.laboratory.config.sparse.is_some()).into_iter();
        let all: Vec<Arc<Hypothesis>> =
            all.filter(|format| format.variant(&right) != right).map(Arc::new).collect();
        Ok(find(self, &all, before)?.filter(explains))
    }

    /// Where the inside of a layer is observed, formats are found at the first tensor that shows them, of which little has to be
    /// computed. Those that are the same so far are gone on with.
    fn tensor_by_tensor(&mut self, all: &[Arc<Hypothesis>]) -> Result<Option<Together>> {
        let right = [Candidate::default()];
        let mut sets: Vec<Vec<Arc<Hypothesis>>> = vec![Vec::new()];
        let mut before: Option<Tap> = None;
        for watched in &self.segment.watched {
            let tap = watched.site.tap;
            let (steps, input) = (self.segment.steps.clone(), self.segment.input.clone());
            let segment = Segment { steps, input, seen: None, watched: vec![watched.clone()] };
            let without = self.laboratory.residuals(&segment, &right)?[0];
            let mut found = best(self.left_by(&segment, sets)?);
            // Nothing is known of any where the time is up.
            let Some(first) = found.first().map(|first| first.after) else {
                return Ok(None);
            };
            if first.ratio > CLOSE {
                let shows = |at: &Tap| *at <= tap && before.is_none_or(|before| *at > before);
                let new = all.iter().filter(|format| shows_at(format).iter().any(shows));
                let new: Vec<_> = new.cloned().collect();
                let mut more = Vec::new();
                for set in &found {
                    more.extend(self.added(&segment, set.clone(), &new)?);
                }
                if !more.is_empty() {
                    found = best(more);
                } else if first.relative >= LESS * without.relative {
                    return Ok(None);
                }
            }
            sets = found.into_iter().map(|set| set.parts).collect();
            before = Some(tap);
        }
        let found = best(self.left_by(self.segment, sets)?);
        let found = found.into_iter().min_by_key(|set| set.parts.len());
        Ok(found.filter(|set| !set.parts.is_empty()))
    }

    /// The formats that leave a small share of what is left with those of `start`, added to them, and those that leave as
    /// little; nothing when there are none.
    /// A format that leaves less is gone on with: what another one changes may make many values behind it go the other
    /// way.
    fn added(
        &mut self,
        segment: &Segment,
        start: Together,
        all: &[Arc<Hypothesis>],
    ) -> Result<Vec<Together>> {
        let mut explaining: Vec<Together> = Vec::new();
        let mut beam = vec![start.clone()];
        for _ in start.parts.len()..MOST {
            let sets = beam.iter().flat_map(|set| {
                let others = all.iter().filter(|other| set.parts.iter().all(|part| is_beside(part, other)));
                others.map(|other| set.parts.iter().chain([other]).cloned().collect::<Vec<_>>())
            });
            let mut found = self.left_by(segment, sets.collect())?;
            found.sort_by(|a, b| a.after.relative.total_cmp(&b.after.relative));
            let limit = beam[0].after.relative * HELPS;
            found.retain(|set| set.after.relative < limit);
            let Some(first) = found.first() else {
                break;
            };
            let goal = LESS * explaining.first().map_or(start.after.relative, |best| best.after.relative);
            if first.after.relative < goal {
                explaining = best(found.iter().filter(|set| set.after.relative < goal).cloned().collect());
            } else if !explaining.is_empty() {
                break;
            }
            if first.after.ratio <= CLOSE {
                break;
            }
            found.truncate(BEAM);
            beam = found;
        }
        Ok(explaining)
    }

    /// What sets of formats leave.
    fn left_by(&mut self, segment: &Segment, sets: Vec<Vec<Arc<Hypothesis>>>) -> Result<Vec<Together>> {
        let right = self.laboratory.right().clone();
        let trials: Vec<Trial> =
            sets.into_iter().map(|parts| Trial { parts, steps: segment.steps.clone() }).collect();
        let candidates: Vec<Candidate> = trials.iter().map(|trial| trial.candidate(&right)).collect();
        let left = self.laboratory.residuals(segment, &candidates)?;
        Ok(trials
            .into_iter()
            .zip(left)
            .map(|(trial, after)| Together { parts: trial.parts, after })
            .collect())
    }
}
