//! Whole models: prefills, whole and in chunks, and decoding.

use anyhow::{Result, ensure};
use burn::tensor::{Int, Tensor, TensorData};
use qwen3_model::{Logits, Observed, Qwen3, Session, SessionOptions, Site, Tap, Taps};
use qwen3_trace::TensorFile;

use super::inputs::{Grid, prompts, read_columns, read_mask, token};
use super::{Bench, Output, observed_data, rope_tables};

impl Bench<'_> {
    /// A whole prefill with taps; then, in a second session, a chunked prefill and one cached step per
    /// generated token, fed with the reference's tokens so that one difference does not hide the next.
    pub(super) fn full_model(&self, checkpoint: &str, file: &TensorFile) -> Result<Vec<Output>> {
        let model = self.load(checkpoint)?;
        let (ids, visible) = (Grid::read(file, "input_ids")?, read_mask(file)?);
        let prompts = prompts(&ids, visible.as_deref())?;
        let longest = ids.rows[0].len();

        let mut outputs = Vec::new();
        let generated = file.has("generated_ids").then(|| Grid::read(file, "generated_ids"));
        let generated = generated.transpose()?;
        let capacity = generated.as_ref().map_or(longest, |ids| longest.max(ids.rows[0].len()));
        let options = SessionOptions { batch: prompts.len(), capacity, chunk_size: longest };
        let mut observe = |site: Site, value| {
            outputs.push(Output::new(site.to_string(), observed_data(value)));
        };
        Session::new(&model, options)?.prefill_with(&prompts, Logits::All, &mut Taps::new(&mut observe))?;
        if file.has("rope_cos") {
            let shape = file.read("rope_cos")?.shape;
            let positions = vec![(0..shape[0]).collect()];
            let tables = rope_tables(&model.rope(), &positions, ["rope_cos", "rope_sin"]);
            outputs.extend(tables.map(|table| {
                let values = table.data.iter::<f32>().collect::<Vec<_>>();
                Output::new(table.name, TensorData::new(values, shape.clone()))
            }));
        }
        if let Some(generated) = generated {
            let chunk_size = longest.div_ceil(2);
            let options = SessionOptions { chunk_size, ..options };
            outputs.extend(decode(&model, options, &prompts, &generated, longest)?);
        }
        Ok(outputs)
    }

    /// A prefill in chunks of the case's size, of which the columns that the fixture has are kept. The
    /// cache has no more slots than tokens.
    pub(super) fn prefill(
        &self,
        checkpoint: &str,
        chunk_size: usize,
        file: &TensorFile,
    ) -> Result<Vec<Output>> {
        let model = self.load(checkpoint)?;
        let (ids, visible) = (Grid::read(file, "input_ids")?, read_mask(file)?);
        let prompts = prompts(&ids, visible.as_deref())?;
        let length = ids.rows[0].len();
        let columns = read_columns(file, length)?;
        let options = SessionOptions { batch: prompts.len(), capacity: length, chunk_size };
        let mut normed = Vec::new();
        let mut observe = |site: Site, value: Observed| {
            if let (Tap::FinalNorm, Observed::Rank3(chunk)) = (site.tap, value) {
                normed.push(chunk);
            }
        };
        let logits = Session::new(&model, options)?.prefill_with(
            &prompts,
            Logits::All,
            &mut Taps::new(&mut observe),
        )?;
        let picked = |name: &str, whole: Tensor<3>| {
            let columns = columns.iter().map(|column| whole.clone().narrow(1, *column, 1));
            Output::new(name, Tensor::cat(columns.collect(), 1).into_data()) // [batch, columns, features]
        };
        Ok(vec![picked("final_norm_output", Tensor::cat(normed, 1)), picked("logits", logits)])
    }
}

/// `step_logits` and the `generated_ids` that follow from them.
fn decode(
    model: &Qwen3,
    options: SessionOptions,
    prompts: &[Vec<u32>],
    generated: &Grid,
    longest: usize,
) -> Result<Vec<Output>> {
    ensure!(
        generated.rows.len() == prompts.len() && generated.rows[0].len() >= longest,
        "`generated_ids` does not continue `input_ids`"
    );
    let mut session = Session::new(model, options)?;
    let mut logits = session.prefill(prompts)?;
    let mut steps = Vec::new();
    let mut chosen = Vec::new();
    for column in longest..options.capacity {
        if column > longest {
            let tokens = generated.rows.iter().map(|row| token(row[column - 1]));
            logits = session.step(&tokens.collect::<Result<Vec<_>>>()?)?;
        }
        steps.push(logits.clone().unsqueeze_dim::<3>(1)); // [batch, 1, vocab_size]
        let best: Tensor<2, Int> = logits.clone().argmax(1); // [batch, 1]
        chosen.push(best.into_data().iter::<i64>().collect::<Vec<_>>());
    }
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let rows = generated.rows.iter().enumerate().flat_map(|(row, ids)| {
        let chosen = chosen.iter().map(move |best| best[row]);
        ids[..longest].iter().copied().chain(chosen)
    });
    let shape = [generated.rows.len(), options.capacity];
    let ids = TensorData::new(rows.collect::<Vec<i64>>(), shape);
    Ok(vec![Output::new("step_logits", Tensor::cat(steps, 1).into_data()), Output::new("generated_ids", ids)])
}
