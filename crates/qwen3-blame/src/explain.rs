//! What explains the tensors between two points of the walk, and what their error looks like when nothing does.

use std::ops::Range;

use qwen3_config::Tap;
use qwen3_trace::Precision;

use crate::Result;

use crate::error_shape;
use crate::explanation::Explanation;
use crate::findings::Finding;
use crate::guesses::{another_head, rounded};
use crate::rival;
use crate::search::search;
use crate::segment::{Candidate, Segment, StepIndex, Watched};
use crate::walk::Walk;

impl Walk<'_> {
    /// Looks for what explains `watched`, in `steps`. Says whether the error was only passed on.
    pub(crate) fn explain(&mut self, steps: Range<StepIndex>, watched: Vec<Watched>) -> Result<bool> {
        let seen = self.observed.values(&self.output(steps.start).to_string())?;
        let seen = seen.filter(|_| !self.isolated);
        let mut segment = Segment { steps: steps.clone(), input: self.input.clone(), seen, watched };
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
                self.notes.push(format!(
                    "observation and reference are each within the limits of what this checkpoint gives at {}, \
                     on either side: rounding on the edge of the limit",
                    self.output(steps.end)
                ));
                return Ok(false);
            }
        }
        let mut noise = false;
        if explanations.is_empty() {
            let known = self.findings.iter().flat_map(|f| &f.explanations);
            let known: Vec<Explanation> = known.cloned().collect();
            let scaled = self.from == 0 && !self.embedding_seen;
            let dtype = self.limits.dtype();
            explanations =
                search(&mut self.laboratory, &segment, before, &known, scaled, dtype, self.progress)?;
            let found = explanations.len();
            if found > 0 {
                let left = rival::noise(&mut self.laboratory, &segment, self.stored.dtype())?;
                explanations.retain(|explanation| !left.leaves_as_little(explanation.after));
            }
            noise = explanations.len() < found;
        }
        if explanations.is_empty() {
            self.describe(&segment, &last, &predicted)?;
            let only_head = steps.start >= self.layers && steps.end == self.layers + 2;
            if self.laboratory.config.tie_word_embeddings && only_head {
                explanations.extend(another_head(&last.values, &predicted));
            }
        }
        let (key, given_up) = (last.site.to_string(), self.laboratory.gave_up());
        self.findings.push(Finding {
            key,
            steps,
            explanations,
            before,
            of_reference,
            given_up,
            noise,
            evidence: None,
        });
        Ok(false)
    }

    /// `dtype_rounding`, when a tensor is what it should be, or what follows from what was observed before it,
    /// rounded.
    fn rounded(&self, watched: &Watched, predicted: &[f64]) -> Result<Vec<Explanation>> {
        // A run in half precision gives nothing else.
        if self.limits.dtype() != Precision::F32 {
            return Ok(Vec::new());
        }
        let limit = self.limits.of(&watched.site.to_string(), &watched.values);
        let found = rounded(&watched.values, predicted, &limit);
        match self.expected(watched.site)? {
            Some(reference) if found.is_empty() => {
                let reference = self.kept(watched.site, &reference);
                Ok(rounded(&watched.values, &reference, &limit))
            }
            _ => Ok(found),
        }
    }

    /// What the right model gives for one of the tensors of a segment, padding left out.
    fn predicted(&mut self, segment: &Segment, watched: &Watched) -> Result<Vec<f64>> {
        let predicted = self.laboratory.predict(segment, watched)?;
        Ok(self.kept(watched.site, &predicted))
    }

    /// Describes the error that nothing explains: of the first tensor that differs from what the right
    /// model gives, or of the last where that one is laid out by heads.
    fn describe(&mut self, segment: &Segment, last: &Watched, predicted: &[f64]) -> Result<()> {
        for watched in &segment.watched {
            if watched.site.tap.sequence_axis() != 1 {
                continue;
            }
            let right = self.predicted(segment, watched)?;
            if watched.residual(&right).ratio > 1.0 {
                let heads = self.heads(watched.site.tap);
                self.unexplained(&watched.values, &right, heads, watched.limit.max_abs());
                return Ok(());
            }
        }
        let heads = self.heads(last.site.tap);
        self.unexplained(&last.values, predicted, heads, last.limit.max_abs());
        Ok(())
    }

    /// How many heads the features of a tap make, where they do.
    fn heads(&self, tap: Tap) -> Option<usize> {
        let config = &self.laboratory.config;
        match tap {
            Tap::QProj | Tap::QNorm | Tap::Context => Some(config.num_attention_heads),
            Tap::KProj | Tap::KNorm | Tap::VProj => Some(config.num_key_value_heads),
            _ => None,
        }
    }

    pub(crate) fn unexplained(&mut self, o: &[f64], e: &[f64], heads: Option<usize>, limit: f64) {
        if self.error_shape.is_empty() {
            let rows = self.laboratory.rows;
            self.error_shape = error_shape::describe(o, e, rows, heads, limit);
        }
    }
}
