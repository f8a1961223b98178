//! Greedy decoding of many prompts: one by one, as a batch, and as a batch read in chunks.

use anyhow::{Result, ensure};
use burn::tensor::{Int, Tensor, TensorData};
use qwen3_model::{Qwen3, Session, SessionOptions};
use qwen3_trace::TensorFile;

use super::inputs::{Grid, prompts, read_mask, token};
use super::{Bench, Output};

/// Tokens of a chunk that divides neither the prompts nor the blocks of the cache.
const CHUNK: usize = 7;

impl Bench<'_> {
    /// The generated tokens `[prompts, new]` of each prompt `alone`, of all as one left-padded batch
    /// (`batched`), and of the batch read in chunks (`chunked`). Nothing ends a text.
    pub(super) fn greedy(&self, checkpoint: &str, file: &TensorFile) -> Result<Vec<Output>> {
        let model = self.load(checkpoint)?;
        let (ids, visible) = (Grid::read(file, "input_ids")?, read_mask(file)?);
        let prompts = prompts(&ids, visible.as_deref())?;
        let longest = ids.rows[0].len();
        let generated = Grid::read(file, "generated_ids")?;
        let new = generated.rows[0].len().saturating_sub(longest);
        ensure!(
            generated.rows.len() == prompts.len() && new > 0,
            "`generated_ids` does not continue `input_ids`"
        );
        let mut alone = Vec::new();
        for prompt in prompts.chunks(1) {
            alone.extend(decode(&model, prompt, prompt[0].len(), new)?);
        }
        let outputs = [
            ("alone", alone),
            ("batched", decode(&model, &prompts, longest, new)?),
            ("chunked", decode(&model, &prompts, CHUNK, new)?),
        ];
        let shape = [prompts.len(), new];
        let output =
            |(name, rows): (&str, Vec<Vec<i64>>)| Output::new(name, TensorData::new(rows.concat(), shape));
        Ok(outputs.map(output).into())
    }
}

/// The `new` likeliest tokens behind each of `prompts`.
fn decode(model: &Qwen3, prompts: &[Vec<u32>], chunk_size: usize, new: usize) -> Result<Vec<Vec<i64>>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let options = SessionOptions { batch: prompts.len(), capacity: longest + new, chunk_size };
    let mut session = Session::new(model, options)?;
    let mut logits = session.prefill(prompts)?;
    let mut rows = vec![Vec::with_capacity(new); prompts.len()];
    for step in 1..=new {
        let best: Tensor<2, Int> = logits.clone().argmax(1); // [batch, 1]
        let best = best.into_data().iter::<i64>().collect::<Vec<_>>();
        for (row, id) in rows.iter_mut().zip(&best) {
            row.push(*id);
        }
        if step < new {
            let best = best.into_iter().map(token).collect::<Result<Vec<_>>>()?;
            logits = session.step(&best)?;
        }
    }
    Ok(rows)
}
