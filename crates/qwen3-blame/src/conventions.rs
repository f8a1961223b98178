//! Ways of saving activations that are no mistakes of the model's.

use crate::Result;
use crate::residual::Residual;
use crate::segment::{StepIndex, Watched};
use crate::walk::Walk;

impl Walk<'_> {
    /// What the last layer gives, when it was observed with the final norm applied, as the last entry of
    /// Transformers' `hidden_states` has it.
    pub(crate) fn normed_already(
        &mut self,
        end: StepIndex,
        watched: &[Watched],
        observed: Option<&[f64]>,
    ) -> Result<Option<Vec<f64>>> {
        let (Some(observed), Some(last)) = (observed, watched.last()) else {
            return Ok(None);
        };
        if end != self.layers {
            return Ok(None);
        }
        let output = self.laboratory.run(self.from..end, &self.input)?;
        let normed = self.laboratory.run(end..end + 1, &output)?;
        let site = self.output(end + 1);
        let (normed, observed) = (self.kept(site, &normed), self.kept(site, observed));
        let limit = self.limits.of(&site.to_string(), &normed);
        if Residual::of(&normed, &observed, &limit).ratio > 1.0 {
            return Ok(None);
        }
        self.notes.push(format!(
            "`{}` was observed with the final norm applied, as the last of Transformers' `hidden_states` has it",
            last.site
        ));
        Ok(Some(output))
    }
}
