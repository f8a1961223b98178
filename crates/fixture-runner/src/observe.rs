//! Runs the model on one backend, a part in memory at a time, and writes what passed through it.
//!
//! In a worker, a process of its own: a backend that aborts takes nothing else with it.

use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_import::{Checkpoint, CheckpointSource};
use qwen3_model::{
    DecoderLayer, Kernel, LayerCache, Observed, Parts, Qwen3Config, Rows, Site, Step, StepPlan, Streamed,
    Tap, Taps, VocabMatrix, burn_dtype,
};
use qwen3_report::{Timing, peak_rss_mb};
use qwen3_trace::{Mode, Recorder, Reference};

use crate::backend::owned;
use crate::protocol::{Observe, Observed as Done};

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Runs the job on `device` and writes the activations; `say` is told what it is at.
///
/// # Errors
/// When the checkpoint or the reference is bad, or the file cannot be written.
pub fn observe(
    device: &Device,
    kernel: Kernel,
    job: &Observe,
    say: &mut dyn FnMut(String) -> Result<()>,
) -> Result<Done> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&job.model)?;
    let checkpoint = match &job.adapter {
        Some(folder) => checkpoint.with_adapter(folder)?,
        None => checkpoint,
    };
    let config = checkpoint.config();
    let reference = Reference::open(&job.reference, config, false)?;
    let dtype = burn_dtype(job.dtype);
    let source = CheckpointSource::new(&checkpoint, device, dtype)?.with_kernel(kernel);
    let mut parts = Streamed::new(source, config);
    let mut run = Run {
        plan: StepPlan::new(config),
        reference: &reference,
        device: device.clone(),
        dtype,
        config,
        job,
        recorder: Recorder::create(&job.out)?,
        tensors: Vec::new(),
        timings: Vec::new(),
    };
    run.all(&mut parts, say)?;
    Ok(Done { elapsed_ms: ms(start), switches: None, peak_rss_mb: peak_rss_mb(), timings: run.timings })
}

/// The hidden states of a run from its own inputs.
struct Accumulated {
    /// Of the prompt, `[batch, seq, hidden_size]`.
    prompt: Tensor<3>,
    /// Of each generated token but the last, `[batch, 1, hidden_size]`.
    steps: Vec<Tensor<3>>,
}

struct Run<'a> {
    reference: &'a Reference,
    device: Device,
    dtype: DType,
    config: &'a Qwen3Config,
    plan: StepPlan,
    job: &'a Observe,
    recorder: Recorder,
    /// What passed through the part that is in memory.
    tensors: Vec<(String, TensorData)>,
    timings: Vec<Timing>,
}

impl Run<'_> {
    fn has(&self, mode: Mode) -> bool {
        self.job.modes.contains(&mode)
    }

    fn all<P: Parts>(&mut self, parts: &mut P, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()>
    where
        P::Error: std::error::Error + Send + Sync + 'static,
    {
        let range = self.job.layers.clone();
        let layers = self.config.num_hidden_layers;
        let step = self.plan.uncached(&self.reference.rows, &self.device);
        let steps = self.cached_steps(range.start == 0 && range.end == layers);

        let mut accumulated = None;
        if self.has(Mode::Accumulated) && range.start == 0 {
            let start = Instant::now();
            let embedding = parts.embedding()?;
            let (load_ms, start) = (ms(start), Instant::now());
            accumulated = Some(self.embed(embedding, steps.len()));
            self.finish("embedding".into(), load_ms, start)?;
        } else if self.has(Mode::Accumulated) {
            let (prompt, steps) = (self.input(range.start)?, Vec::new());
            accumulated = Some(Accumulated { prompt, steps });
        }
        let mut patched: Vec<(usize, Tensor<3>)> = Vec::new();
        for index in range.clone() {
            say(format!("layer {index} of {layers}"))?;
            let start = Instant::now();
            let layer = parts.layer(index)?;
            let (load_ms, start) = (ms(start), Instant::now());
            if let Some(state) = &mut accumulated {
                self.accumulate(layer, index, state, &step, &steps);
            }
            if self.has(Mode::Isolated) && self.known(index) {
                let input = self.input(index)?;
                self.tapped(layer, index, input, &step, Mode::Isolated, None);
            }
            for (behind, stream) in &mut patched {
                say(format!("layer {index} of {layers}, patched behind layer {behind}"))?;
                *stream = layer.forward(stream.clone(), &step, None, &mut Taps::none());
            }
            if self.has(Mode::Patched) && self.known(index + 1) {
                patched.push((index, self.input(index + 1)?));
            }
            self.finish(format!("layer_{index:02}"), load_ms, start)?;
        }
        if range.end == layers {
            say("final norm and head".into())?;
            self.end(parts, accumulated, patched)?;
        }
        Ok(())
    }

    /// The passes over the generated tokens, all but the last, after the prompt in a cache.
    fn cached_steps(&self, whole: bool) -> Vec<Step> {
        let rows = &self.reference.rows;
        let count = if whole { self.reference.steps().saturating_sub(1) } else { 0 };
        let mut next = Rows {
            positions: (0..rows.visible.len()).map(|row| vec![rows.tokens(row)]).collect(),
            visible: rows.visible.clone(),
        };
        let mut steps = Vec::new();
        for _ in 0..count {
            next.visible.iter_mut().for_each(|row| row.push(true));
            steps.push(self.plan.step(&next, next.visible[0].len(), &self.device));
            next.positions.iter_mut().for_each(|row| row[0] += 1);
        }
        steps
    }

    /// Has the reference what goes into layer `index`?
    fn known(&self, index: usize) -> bool {
        self.reference.has(Site::output(index, self.config.num_hidden_layers))
    }

    fn input(&self, index: usize) -> Result<Tensor<3>> {
        self.expected(Site::output(index, self.config.num_hidden_layers))
    }

    fn expected(&self, site: Site) -> Result<Tensor<3>> {
        let key = site.to_string();
        let array = self.reference.trace.array(&key)?;
        let array = array.with_context(|| format!("the reference has no tensor `{key}`"))?;
        let data = TensorData::new(array.floats(&key)?.to_vec(), array.shape.clone());
        let data = data.convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (&self.device, self.dtype)))
    }

    fn embed(&mut self, embedding: &VocabMatrix, steps: usize) -> Accumulated {
        let embed = |rows: Vec<Vec<u32>>| {
            let shape = [rows.len(), rows[0].len()];
            let ids: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
            let ids = TensorData::new(ids, shape);
            embedding.embed(Tensor::<2, Int>::from_data(ids, &self.device))
        };
        let prompt = embed(self.reference.ids.clone());
        let column = |step: usize| {
            let rows = self.reference.generated.iter();
            embed(rows.map(|row| vec![row[step]]).collect())
        };
        let steps = (0..steps).map(column).collect();
        self.keep(Mode::Accumulated, Tap::Embedding.name(), prompt.clone());
        Accumulated { prompt, steps }
    }

    fn accumulate(
        &mut self,
        layer: &DecoderLayer,
        index: usize,
        state: &mut Accumulated,
        step: &Step,
        steps: &[Step],
    ) {
        let [batch, seq, _] = state.prompt.dims();
        let (heads, head_dim) = (self.config.num_key_value_heads, self.config.head_dim);
        let shape = [batch, heads, seq + steps.len(), head_dim];
        let mut cache = LayerCache::new(shape, layer.self_attn.reach, &self.device, self.dtype);
        let prompt = state.prompt.clone();
        let cached = (!steps.is_empty()).then_some(&mut cache);
        state.prompt = self.tapped(layer, index, prompt, step, Mode::Accumulated, cached);
        for (hidden, step) in state.steps.iter_mut().zip(steps) {
            *hidden = layer.forward(hidden.clone(), step, Some(&mut cache), &mut Taps::none());
        }
    }

    /// Runs a layer on the prompt and keeps everything that passes through it.
    fn tapped(
        &mut self,
        layer: &DecoderLayer,
        index: usize,
        input: Tensor<3>,
        step: &Step,
        mode: Mode,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let mut tensors = Vec::new();
        let mut observe = |site: Site, value: Observed| {
            let data = match value {
                Observed::Rank3(tensor) => tensor.into_data(),
                Observed::Rank4(tensor) => tensor.into_data(),
            };
            let site = Site::inside(index, site.tap);
            tensors.push((format!("{mode}/{site}"), owned(data)));
        };
        let output = layer.forward(input, step, cache, &mut Taps::new(&mut observe));
        self.tensors.extend(tensors);
        output
    }

    fn end<P: Parts>(
        &mut self,
        parts: &mut P,
        accumulated: Option<Accumulated>,
        patched: Vec<(usize, Tensor<3>)>,
    ) -> Result<()>
    where
        P::Error: std::error::Error + Send + Sync + 'static,
    {
        let start = Instant::now();
        let end = parts.end()?;
        let (load_ms, start) = (ms(start), Instant::now());
        let norm = |x: Tensor<3>| end.normed(x, &mut Taps::none());
        let logits = |x: Tensor<3>| end.logits(x, &mut Taps::none());
        let last = |x: Tensor<3>| {
            let [batch, seq, hidden] = x.dims();
            x.slice([0..batch, seq - 1..seq, 0..hidden]) // [batch, 1, hidden_size]
        };
        let (final_norm, scores) = (Tap::FinalNorm.name(), Tap::Logits.name());
        if let Some(state) = accumulated {
            let normed = norm(state.prompt);
            self.keep(Mode::Accumulated, final_norm, normed.clone());
            self.keep(Mode::Accumulated, scores, logits(normed.clone()));
            // From the middle of the model there are no cached steps.
            if self.reference.steps() == state.steps.len() + 1 {
                let steps = state.steps.into_iter().map(norm);
                let all: Vec<_> = [last(normed)].into_iter().chain(steps).collect();
                let all = logits(Tensor::cat(all, 1)); // [batch, steps, vocab_size]
                self.keep(Mode::Accumulated, "step_logits", all);
            }
        }
        if self.has(Mode::Isolated) {
            if self.known(self.config.num_hidden_layers) {
                let normed = norm(self.input(self.config.num_hidden_layers)?);
                self.keep(Mode::Isolated, final_norm, normed);
            }
            let normed = Site::outside(Tap::FinalNorm);
            if self.reference.has(normed) {
                let normed = self.expected(normed)?;
                self.keep(Mode::Isolated, scores, logits(normed));
            }
        }
        for (index, stream) in patched {
            let made = logits(norm(last(stream)));
            self.keep(Mode::Patched, &format!("{index:02}/last_logits"), made);
        }
        self.finish("head".into(), load_ms, start)
    }

    fn keep(&mut self, mode: Mode, key: &str, tensor: Tensor<3>) {
        self.tensors.push((format!("{mode}/{key}"), owned(tensor.into_data())));
    }

    /// Notes how long a part took, and writes what was kept of it.
    fn finish(&mut self, part: String, load_ms: f64, start: Instant) -> Result<()> {
        let run_ms = ms(start);
        self.timings.push(Timing { part, load_ms, run_ms });
        let tensors = std::mem::take(&mut self.tensors).into_iter().map(|(name, data)| {
            let values = data.iter::<f32>().collect();
            (name, data.shape().to_vec(), values)
        });
        Ok(self.recorder.write(tensors.collect())?)
    }
}
