//! Mistakes of which there are many and that are seldom: of one head, one expert, one size of a chunk or of a cache.

use std::sync::Arc;

use crate::Result;
use crate::cache::of_full_caches;
use crate::catalogue::chunks;
use crate::explanation::{Explanation, Trial};
use crate::habits::of_parts;
use crate::search::Search;

impl Search<'_, '_> {
    /// Those that explain the segment.
    pub(crate) fn rare(&mut self) -> Result<Vec<Explanation>> {
        let (config, rows) = (self.laboratory.config.clone(), self.laboratory.rows);
        if self.segment.steps.start >= config.num_hidden_layers {
            return Ok(Vec::new());
        }
        let mut list = Vec::new();
        // The first token that is off is the first of the second chunk.
        list.extend(self.first_wrong()?.filter(|token| *token > 0).map(chunks));
        list.extend(self.laboratory.prompt().into_iter().flat_map(|from| of_full_caches(rows, from)));
        list.extend(of_parts(&config));
        let steps = self.segment.steps.clone();
        let trial = |hypothesis| Trial { parts: vec![Arc::new(hypothesis)], steps: steps.clone() };
        self.attempt(list.into_iter().map(trial).collect())
    }

    /// The first place in a row where a token is off, of the last tensor of the segment.
    fn first_wrong(&mut self) -> Result<Option<usize>> {
        let rows = self.laboratory.rows;
        let last = self.segment.watched.last().expect("something is watched").clone();
        let places: Vec<usize> = rows
            .visible
            .iter()
            .flat_map(|row| row.iter().enumerate().filter(|(_, seen)| **seen).map(|(token, _)| token))
            .collect();
        if last.site.tap.sequence_axis() != 1 || !last.values.len().is_multiple_of(places.len()) {
            return Ok(None);
        }
        let predicted = self.laboratory.predict(self.segment, &last)?;
        let predicted = self.laboratory.without_padding(last.site, &predicted);
        let width = last.values.len() / places.len();
        let errors: Vec<f64> = predicted
            .chunks(width)
            .zip(last.values.chunks(width))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
            .collect();
        let largest = errors.iter().copied().fold(0.0, f64::max);
        let wrong = errors.iter().zip(&places).filter(|(error, _)| **error > 0.01 * largest);
        Ok(wrong.map(|(_, place)| *place).min())
    }
}
