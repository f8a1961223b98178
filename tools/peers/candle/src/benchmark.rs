//! What is measured, and in which order: as `common.py` does it for the other peers.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::engine::Candle;
use crate::options::{Numbers, Options};

const WARM_UP_STEPS: usize = 3;

/// Samples of one phase, in seconds.
#[derive(Serialize)]
pub struct Measurement {
    phase: &'static str,
    tokens: usize,
    context: usize,
    batch: usize,
    warm_up: Option<f64>,
    samples: Vec<f64>,
}

/// A phase that was not measured, and why.
#[derive(Serialize)]
pub struct Skipped {
    phase: &'static str,
    tokens: usize,
    context: usize,
    batch: usize,
    reason: String,
}

/// Measures candle; the measurements, and what was skipped and why, gather in it.
pub struct Benchmark<'a> {
    engine: Candle,
    options: &'a Options,
    vocab_size: u32,
    max_length: usize,
    random: StdRng,
    /// Without those of prompts and contexts that the model has not enough positions for.
    pub measurements: Vec<Measurement>,
    /// Those.
    pub skipped: Vec<Skipped>,
}

/// `count` random token ids.
fn draw(random: &mut StdRng, vocab_size: u32, count: usize) -> Vec<u32> {
    (0..count).map(|_| random.random_range(0..vocab_size)).collect()
}

impl<'a> Benchmark<'a> {
    /// Nothing measured yet.
    pub fn new(engine: Candle, options: &'a Options, checkpoint: &Checkpoint) -> Self {
        Self {
            engine,
            options,
            vocab_size: checkpoint.config.vocab_size as u32,
            max_length: checkpoint.config.max_position_embeddings,
            random: StdRng::seed_from_u64(options.seed),
            measurements: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Whether the model has so many positions; if not, the phases are skipped.
    fn fits(&mut self, phases: &[&'static str], tokens: usize, context: usize, batch: usize) -> bool {
        let (length, limit) = (context + tokens, self.max_length);
        if length > limit {
            self.skipped.extend(phases.iter().map(|&phase| {
                let reason = format!("{length} tokens, max_position_embeddings is {limit}");
                Skipped { phase, tokens, context, batch, reason }
            }));
        }
        length <= limit
    }

    /// Reads a random prompt into the empty cache: seconds to its logits, and to the next id.
    fn read(&mut self, length: usize) -> Result<(f64, f64)> {
        let ids = [draw(&mut self.random, self.vocab_size, length)];
        self.engine.clear();
        let start = Instant::now();
        self.engine.forward(&ids)?;
        let logits = start.elapsed().as_secs_f64();
        self.engine.argmax()?;
        Ok((logits, start.elapsed().as_secs_f64()))
    }

    /// Measures `prefill` and `first_token`.
    fn prompt(&mut self, length: usize) -> Result<()> {
        if !self.fits(&["first_token", "prefill"], length, 0, 1) {
            return Ok(());
        }
        let (prefill, first_token) = self.read(length)?;
        let samples = (0..self.options.runs).map(|_| self.read(length)).collect::<Result<Vec<_>>>()?;
        let (prefills, first_tokens) = samples.into_iter().unzip();
        for (phase, warm_up, samples) in
            [("first_token", first_token, first_tokens), ("prefill", prefill, prefills)]
        {
            let warm_up = Some(warm_up);
            self.measurements.push(Measurement {
                phase,
                tokens: length,
                context: 0,
                batch: 1,
                warm_up,
                samples,
            });
        }
        Ok(())
    }

    /// Seconds of so many greedy steps of `batch` sequences, from random ids.
    fn generate(&mut self, batch: usize, steps: usize) -> Result<f64> {
        let mut ids = draw(&mut self.random, self.vocab_size, batch);
        let start = Instant::now();
        for _ in 0..steps {
            self.engine.forward(&ids.iter().map(|&id| vec![id]).collect::<Vec<_>>())?;
            ids = self.engine.argmax()?;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Measures `decode` behind `context` random tokens.
    fn decode(&mut self, context: usize, batch: usize) -> Result<()> {
        let steps = self.options.r#gen;
        if !self.fits(&["decode"], steps, context, batch) {
            return Ok(());
        }
        self.engine.clear();
        let (random, vocab_size) = (&mut self.random, self.vocab_size);
        self.engine.fill(batch, context, |count| draw(random, vocab_size, count))?;
        let warm_up = Some(self.generate(batch, 1)?);
        self.generate(batch, WARM_UP_STEPS - 1)?;
        let mut samples = Vec::new();
        for _ in 0..self.options.runs {
            self.engine.rewind(context);
            samples.push(self.generate(batch, steps)?);
        }
        self.measurements.push(Measurement {
            phase: "decode",
            tokens: steps,
            context,
            batch,
            warm_up,
            samples,
        });
        Ok(())
    }

    /// Every measurement; that of `load` is given.
    pub fn all(&mut self, load: f64) -> Result<()> {
        let options = self.options;
        let (phase, samples) = ("load", vec![load]);
        self.measurements.push(Measurement {
            phase,
            tokens: 0,
            context: 0,
            batch: 1,
            warm_up: None,
            samples,
        });
        for &length in &options.prompt.0 {
            self.prompt(length)?;
        }
        for (index, &context) in options.context.0.iter().enumerate() {
            self.decode(context, 1)?;
            for &batch in options.batch.0.iter().filter(|&&batch| index == 0 && batch != 1) {
                self.decode(context, batch)?;
            }
        }
        Ok(())
    }

    /// The `--gen` greedy ids behind each prompt of `--ids`: [batch][gen].
    pub fn greedy_ids(&mut self) -> Result<Vec<Vec<u32>>> {
        let mut next: Vec<Vec<u32>> = self
            .options
            .ids
            .iter()
            .map(|Numbers(prompt)| prompt.iter().map(|&id| id as u32).collect())
            .collect();
        let mut rows = vec![Vec::new(); next.len()];
        let mut logits = Vec::new();
        for _ in 0..self.options.r#gen {
            self.engine.forward(&next)?;
            logits.push(self.engine.logits()?);
            next = self.engine.argmax()?.into_iter().map(|id| vec![id]).collect();
            for (row, id) in rows.iter_mut().zip(&next) {
                row.extend(id);
            }
        }
        if let Some(file) = &self.options.trace {
            // The prompt and what came behind it, as Transformers' `generate` gives them.
            let prompts = self.options.ids.iter().map(|Numbers(prompt)| prompt.iter().map(|&id| id as i64));
            let rows =
                prompts.zip(&rows).map(|(prompt, row)| prompt.chain(row.iter().map(|&id| i64::from(id))));
            let rows: Vec<Vec<i64>> = rows.map(Iterator::collect).collect();
            let ids = Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu)?;
            let tensors = HashMap::from([("step_logits", Tensor::cat(&logits, 1)?), ("generated_ids", ids)]);
            candle_core::safetensors::save(&tensors, file)?;
        }
        Ok(rows)
    }
}

/// The most memory this process has had, in MiB, as Linux tells it.
pub fn peak_rss_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kilobytes / 1024.0 * 10.0).round() / 10.0)
}
