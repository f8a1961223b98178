//! Runs the model on one backend, a layer in memory at a time, and writes what passed through it.
//!
//! In a worker, a process of its own: a backend that aborts takes nothing else with it.

use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_config::{EMBEDDING, HEAD, Site, Tap};
use qwen3_import::{Checkpoint, CheckpointSource};
use qwen3_model::{
    burn_dtype,
    DecoderLayer, LayerCache, Observed, Qwen3Config, RmsNorm, RotaryEmbedding, Step, Taps,
    VocabMatrix,
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
    job: &Observe,
    say: &mut dyn FnMut(String) -> Result<()>,
) -> Result<Done> {
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&job.model)?;
    let config = checkpoint.config().clone();
    let reference = Reference::open(&job.reference, &config, false)?;
    let mut run = Run {
        rope: RotaryEmbedding::new(config.head_dim, config.rope_theta),
        checkpoint: &checkpoint,
        reference: &reference,
        device: device.clone(),
        dtype: burn_dtype(job.dtype),
        config,
        job,
        recorder: Recorder::create(&job.out)?,
        tensors: Vec::new(),
        timings: Vec::new(),
    };
    run.all(say)?;
    Ok(Done {
        elapsed_ms: ms(start),
        switches: None,
        peak_rss_mb: peak_rss_mb(),
        timings: run.timings,
    })
}

/// The hidden states of a run from its own inputs.
struct Accumulated {
    /// Of the prompt, `[batch, seq, hidden_size]`.
    prompt: Tensor<3>,
    /// Of each generated token but the last, `[batch, 1, hidden_size]`.
    steps: Vec<Tensor<3>>,
}

struct Run<'a> {
    checkpoint: &'a Checkpoint,
    reference: &'a Reference,
    device: Device,
    dtype: DType,
    config: Qwen3Config,
    rope: RotaryEmbedding,
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

    fn all(&mut self, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let range = self.job.layers.clone();
        let layers = self.config.num_hidden_layers;
        let step = self.prompt_step();
        let steps = self.cached_steps(range.start == 0 && range.end == layers);

        let mut accumulated = match (self.has(Mode::Accumulated), range.start) {
            (false, _) => None,
            (true, 0) => Some(self.embed(steps.len())?),
            (true, first) => Some(Accumulated {
                prompt: self.input(first)?,
                steps: Vec::new(),
            }),
        };
        let mut patched: Vec<(usize, Tensor<3>)> = Vec::new();
        for index in range.clone() {
            say(format!("layer {index} of {layers}"))?;
            let start = Instant::now();
            let mut source = CheckpointSource::new(self.checkpoint, &self.device, self.dtype)?;
            let layer = DecoderLayer::build(&mut source, &self.config, index)?;
            let (load_ms, start) = (ms(start), Instant::now());
            if let Some(state) = &mut accumulated {
                self.accumulate(&layer, index, state, &step, &steps)?;
            }
            if self.has(Mode::Isolated) && self.known(index) {
                let input = self.input(index)?;
                self.tapped(&layer, index, input, &step, Mode::Isolated, None)?;
            }
            for (behind, stream) in &mut patched {
                say(format!(
                    "layer {index} of {layers}, patched behind layer {behind}"
                ))?;
                *stream = layer.forward(stream.clone(), &step, None, &mut Taps::none());
            }
            if self.has(Mode::Patched) && self.known(index + 1) {
                patched.push((index, self.input(index + 1)?));
            }
            self.timings.push(Timing {
                part: format!("layer_{index:02}"),
                load_ms,
                run_ms: ms(start),
            });
            self.record()?;
        }
        if range.end == layers {
            say("final norm and head".into())?;
            self.end(accumulated, patched)?;
        }
        Ok(())
    }

    /// The pass over the prompt.
    fn prompt_step(&self) -> Step {
        let rows = &self.reference.rows;
        Step::uncached(&self.rope, &rows.positions, &rows.visible, &self.device)
    }

    /// The passes over the generated tokens, all but the last, after the prompt in a cache.
    fn cached_steps(&self, whole: bool) -> Vec<Step> {
        let rows = &self.reference.rows;
        let [_, seq] = rows.dims();
        let count = self.reference.steps().saturating_sub(1);
        let mut visible = rows.visible.clone();
        let mut next: Vec<usize> = (0..visible.len()).map(|row| rows.tokens(row)).collect();
        let mut steps = Vec::new();
        for index in 0..if whole { count } else { 0 } {
            visible.iter_mut().for_each(|row| row.push(true));
            let positions: Vec<_> = next.iter().map(|position| vec![*position]).collect();
            next.iter_mut().for_each(|position| *position += 1);
            let start = seq + index;
            let keys = start + 1;
            steps.push(Step::new(
                &self.rope,
                &positions,
                &visible,
                start,
                keys,
                &self.device,
            ));
        }
        steps
    }

    /// Has the reference what goes into layer `index`?
    fn known(&self, index: usize) -> bool {
        self.reference.has(self.input_site(index))
    }

    fn input(&self, index: usize) -> Result<Tensor<3>> {
        self.expected(self.input_site(index))
    }

    fn input_site(&self, index: usize) -> Site {
        Site::output(index, self.config.num_hidden_layers)
    }

    fn expected(&self, site: Site) -> Result<Tensor<3>> {
        let key = site.to_string();
        let array = self.reference.trace.array(&key)?;
        let array = array.with_context(|| format!("the reference has no tensor `{key}`"))?;
        let data = TensorData::new(array.floats(&key)?.to_vec(), array.shape.clone());
        let data = data.convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (&self.device, self.dtype)))
    }

    fn vocabulary(&mut self, key: &str) -> Result<VocabMatrix> {
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let mut source = CheckpointSource::new(self.checkpoint, &self.device, self.dtype)?;
        Ok(VocabMatrix::build(&mut source, key, shape)?)
    }

    fn embed(&mut self, steps: usize) -> Result<Accumulated> {
        let start = Instant::now();
        let matrix = self.vocabulary(EMBEDDING)?;
        let (load_ms, start) = (ms(start), Instant::now());
        let embed = |rows: Vec<Vec<u32>>| {
            let shape = [rows.len(), rows[0].len()];
            let ids: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
            let ids = TensorData::new(ids, shape);
            matrix.embed(Tensor::<2, Int>::from_data(ids, &self.device))
        };
        let prompt = embed(self.reference.ids.clone());
        let column = |step: usize| {
            let rows = self.reference.generated.iter();
            embed(rows.map(|row| vec![row[step]]).collect())
        };
        let steps = (0..steps).map(column).collect();
        if self.has(Mode::Accumulated) {
            self.keep(Mode::Accumulated, "embedding_output", prompt.clone());
        }
        self.timings.push(Timing {
            part: "embedding".into(),
            load_ms,
            run_ms: ms(start),
        });
        self.record()?;
        Ok(Accumulated { prompt, steps })
    }

    fn accumulate(
        &mut self,
        layer: &DecoderLayer,
        index: usize,
        state: &mut Accumulated,
        step: &Step,
        steps: &[Step],
    ) -> Result<()> {
        let [batch, seq, _] = state.prompt.dims();
        let capacity = seq + steps.len();
        let shape = [
            batch,
            self.config.num_key_value_heads,
            capacity,
            self.config.head_dim,
        ];
        let mut cache = LayerCache::new(shape, &self.device, self.dtype);
        let prompt = state.prompt.clone();
        let cached = (!steps.is_empty()).then_some(&mut cache);
        state.prompt = self.tapped(layer, index, prompt, step, Mode::Accumulated, cached)?;
        for (hidden, step) in state.steps.iter_mut().zip(steps) {
            *hidden = layer.forward(hidden.clone(), step, Some(&mut cache), &mut Taps::none());
        }
        Ok(())
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
    ) -> Result<Tensor<3>> {
        let mut tensors = Vec::new();
        let mut observe = |site: Site, value: Observed| {
            let site = Site {
                layer: Some(index),
                ..site
            };
            let data = match value {
                Observed::Rank3(tensor) => tensor.into_data(),
                Observed::Rank4(tensor) => tensor.into_data(),
            };
            tensors.push((format!("{}/{site}", mode.name()), owned(data)));
        };
        let mut taps = Taps::new(&mut observe);
        let output = layer.forward(input, step, cache, &mut taps);
        self.tensors.extend(tensors);
        Ok(output)
    }

    fn end(
        &mut self,
        accumulated: Option<Accumulated>,
        patched: Vec<(usize, Tensor<3>)>,
    ) -> Result<()> {
        let layers = self.config.num_hidden_layers;
        let (hidden, eps) = (self.config.hidden_size, self.config.rms_norm_eps);
        let start = Instant::now();
        let mut source = CheckpointSource::new(self.checkpoint, &self.device, self.dtype)?;
        let norm = RmsNorm::build(&mut source, "model.norm", hidden, eps)?;
        let head = match self.config.tie_word_embeddings {
            true => self.vocabulary(EMBEDDING)?,
            false => self.vocabulary(HEAD)?,
        };
        let (load_ms, start) = (ms(start), Instant::now());
        let logits = |x: Tensor<3>| {
            let [batch, seq, hidden] = x.dims();
            let logits = head.logits(x.reshape([batch * seq, hidden])); // [batch * seq, vocab_size]
            let vocab = logits.dims()[1];
            logits.reshape([batch, seq, vocab]) // [batch, seq, vocab_size]
        };
        let last = |x: Tensor<3>| {
            let [batch, seq, hidden] = x.dims();
            x.slice([0..batch, seq - 1..seq, 0..hidden]) // [batch, 1, hidden_size]
        };
        if let Some(state) = accumulated {
            let normed = norm.forward(state.prompt);
            self.keep(Mode::Accumulated, "final_norm_output", normed.clone());
            self.keep(Mode::Accumulated, "logits", logits(normed.clone()));
            // From the middle of the model there are no cached steps.
            if self.reference.steps() == state.steps.len() + 1 {
                let steps = state.steps.into_iter().map(|x| norm.forward(x));
                let all: Vec<_> = [last(normed)].into_iter().chain(steps).collect();
                let all = logits(Tensor::cat(all, 1)); // [batch, steps, vocab_size]
                self.keep(Mode::Accumulated, "step_logits", all);
            }
        }
        if self.has(Mode::Isolated) {
            if self.known(layers) {
                let normed = norm.forward(self.input(layers)?);
                self.keep(Mode::Isolated, "final_norm_output", normed);
            }
            let normed = Site::outside(Tap::FinalNorm);
            if self.reference.has(normed) {
                let normed = self.expected(normed)?;
                self.keep(Mode::Isolated, "logits", logits(normed));
            }
        }
        for (index, stream) in patched {
            let made = logits(norm.forward(last(stream)));
            let name = format!("{}/{index:02}/last_logits", Mode::Patched.name());
            self.tensors.push((name, owned(made.into_data())));
        }
        self.timings.push(Timing {
            part: "head".into(),
            load_ms,
            run_ms: ms(start),
        });
        self.record()
    }

    /// Writes what was kept of this part.
    fn record(&mut self) -> Result<()> {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        let tensors = tensors.map(|(name, data)| {
            let values = data.iter::<f32>().collect();
            (name, data.shape().to_vec(), values)
        });
        Ok(self.recorder.write(tensors.collect())?)
    }

    fn keep(&mut self, mode: Mode, key: &str, tensor: Tensor<3>) {
        self.tensors
            .push((format!("{}/{key}", mode.name()), owned(tensor.into_data())));
    }
}
