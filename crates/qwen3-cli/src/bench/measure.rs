//! The process that measures.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::{Int, Tensor};
use qwen3_bench::{Measurement, Measurements, NotMeasured, tokens, workloads};
use qwen3_command::BenchSizes;
use qwen3_model::{DeviceMap, Extent, Kernel, Qwen3, Session, SessionOptions};
use qwen3_report::bench::{Phase, Workload};
use qwen3_report::{BURN_VERSION, huge_pages_mb, peak_rss_mb};

use super::{Args, rates};
use crate::failure::Blame;
use crate::files::Need;
use crate::model;

/// Steps before decoding is timed, where kernels are compiled beforehand; elsewhere as many as are timed.
const WARM_UP_STEPS: usize = 3;

/// Loads the model and measures everything that is asked for.
///
/// # Errors
/// When the model or the device cannot be opened.
pub fn measurements(args: &Args) -> Result<Measurements> {
    let Args { model, device, kernels, sizes, .. } = args;
    let backend = device.backend()?;
    let (device, dtype) = device.device().absent()?;
    let version = format!("qwen3 {}, Burn {BURN_VERSION}", env!("CARGO_PKG_VERSION"));
    let mut found = Measurements::new("qwen3", version, sizes.threads());
    let files = model.files(Need::Weights)?;
    let begun = Instant::now();
    let map = DeviceMap::whole(device.clone(), files.weights.config()?.num_hidden_layers);
    let model = model::weights(&files, Extent::Whole, &map, dtype)?.with_kernel(Kernel::from(*kernels));
    device.sync()?;
    let load = begun.elapsed().as_secs_f64();
    drop(files);
    found.measurements.push(Measurement { workload: Workload::LOAD, warm_up: None, samples: vec![load] });

    let bench = Bench { model: &model, sizes, compiles: backend.compiles_kernels() };
    for workload in workloads(sizes) {
        let (needed, positions) = (slots(&workload), model.config.max_tokens());
        if needed > positions {
            let reason = format!("needs {needed} positions, and the model has {positions}");
            found.skipped.push(NotMeasured { workload: Some(workload), reason });
            continue;
        }
        match workload.phase {
            // Both come from one run.
            Phase::Load | Phase::FirstToken => {}
            Phase::Prefill => found.measurements.extend(bench.prompt(workload)?),
            Phase::Decode => found.measurements.push(bench.decode(workload)?),
        }
    }
    found.peak_rss_mb = peak_rss_mb();
    found.huge_pages_mb = huge_pages_mb();
    if backend.compiles_kernels() {
        found.device = Some(rates::rates(&device, dtype)?);
    }
    Ok(found)
}

/// Slots of the cache that a workload needs.
fn slots(workload: &Workload) -> usize {
    workload.context.saturating_add(workload.tokens)
}

struct Bench<'a> {
    model: &'a Qwen3,
    sizes: &'a BenchSizes,
    /// Are kernels compiled when they are first used?
    compiles: bool,
}

impl Bench<'_> {
    fn session(&self, workload: &Workload) -> Result<Session> {
        let options =
            SessionOptions { batch: workload.batch, capacity: slots(workload), ..SessionOptions::default() };
        Ok(Session::new(self.model, options)?)
    }

    /// Tokens of run `run` that no other run has.
    fn tokens(&self, run: usize, count: usize) -> Vec<u32> {
        let seed = u64::from(self.sizes.seed) << 32 | run as u64;
        tokens(seed, count, self.model.config.vocab_size)
    }

    /// The first token behind a prompt, and reading the prompt.
    fn prompt(&self, prefill: Workload) -> Result<[Measurement; 2]> {
        let mut session = self.session(&prefill)?;
        let mut run = |run: usize| -> Result<[f64; 2]> {
            let ids = self.tokens(run, prefill.tokens);
            session.reset();
            let begun = Instant::now();
            let logits = session.prefill(&[ids])?;
            // One number, so that the work is done and nothing is copied.
            logits.clone().slice([0..1, 0..1]).into_data();
            let read = begun.elapsed().as_secs_f64();
            chosen(logits);
            Ok([begun.elapsed().as_secs_f64(), read])
        };
        let warm_up = run(0)?;
        let samples = (1..=self.sizes.runs).map(run).collect::<Result<Vec<_>>>()?;
        let workloads = [Workload { phase: Phase::FirstToken, ..prefill }, prefill];
        let of = |at: usize| Measurement {
            workload: workloads[at],
            warm_up: Some(warm_up[at]),
            samples: samples.iter().map(|sample| sample[at]).collect(),
        };
        Ok([of(0), of(1)])
    }

    /// Greedy steps behind a context.
    fn decode(&self, workload: Workload) -> Result<Measurement> {
        let Workload { tokens: steps, context, batch, .. } = workload;
        let mut session = self.session(&workload)?;
        session.read_noise(context)?;
        let mut run = |run: usize, steps: usize| -> Result<f64> {
            let mut ids = self.tokens(run, batch);
            if session.truncate(context) < context {
                session.read_noise(context)?;
            }
            let begun = Instant::now();
            for _ in 0..steps {
                ids = chosen(session.step(&ids)?);
            }
            Ok(begun.elapsed().as_secs_f64())
        };
        let warm_up = run(0, 1)?;
        run(0, if self.compiles { steps } else { steps.min(WARM_UP_STEPS) })?;
        let samples = (1..=self.sizes.runs).map(|number| run(number, steps)).collect::<Result<_>>()?;
        Ok(Measurement { workload, warm_up: Some(warm_up), samples })
    }
}

/// The token with the largest of the logits `[batch, vocab_size]` in each sequence, on the host.
fn chosen(logits: Tensor<2>) -> Vec<u32> {
    let best: Tensor<2, Int> = logits.argmax(1); // [batch, 1]
    best.into_data().iter::<i64>().map(|id| id as u32).collect()
}
