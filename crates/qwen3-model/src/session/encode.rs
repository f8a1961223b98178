use burn::tensor::Tensor;

use super::{Padding, Prefill, Session, SessionError};
use crate::Taps;

impl Session {
    /// The last norm's output for the last token of every text, `[batch, hidden_size]`: what embeddings are made of.
    /// A model without a head has it, too.
    ///
    /// Texts are read in chunks, the shorter ones padded on the side `padding`, which changes nothing but roundings.
    /// What was read before is forgotten, and so are the texts.
    ///
    /// Follows `last_token_pool` of the model card of Qwen3-Embedding.
    ///
    /// # Errors
    /// When texts do not match the batch, are empty, hold unknown tokens or do not fit.
    pub fn encode<P: AsRef<[u32]>>(
        &mut self,
        texts: &[P],
        padding: Padding,
    ) -> Result<Tensor<2>, SessionError> {
        let rows = texts.iter().map(|text| text.as_ref().to_vec());
        let mut prefill = Prefill::new(rows.collect(), padding);
        self.check(&prefill, 0)?;
        self.reset();
        let last = prefill.last_columns();
        let mut pooled = vec![None; last.len()];
        while let Some(chunk) = prefill.next_chunk(self.options.chunk_size) {
            let first = prefill.read() - chunk[0].len();
            let hidden = self.advance(&chunk, &mut Taps::none());
            let features = hidden.dims()[2];
            for (row, column) in last.iter().enumerate() {
                if (first..prefill.read()).contains(column) {
                    let at = column - first;
                    let token = hidden.clone().slice([row..row + 1, at..at + 1, 0..features]);
                    pooled[row] = Some(token.reshape([1, features])); // [1, hidden_size]
                }
            }
        }
        self.reset();
        let pooled = pooled.into_iter().flatten().collect();
        Ok(Tensor::cat(pooled, 0)) // [batch, hidden_size]
    }
}
