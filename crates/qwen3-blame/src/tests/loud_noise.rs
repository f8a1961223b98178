//! Runs that are off by more than honest ones, for no reason: noise has no cause, however loud.

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Precision, Site, Tap};
use qwen3_trace::{Recorder, Reference, Trace};
use tempfile::TempDir;

use super::fixtures;
use crate::arithmetic::Arithmetic;
use crate::catalogue::in_layers;
use crate::ops::dot;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::{LayerWeights, embedding_rows};
use crate::{ExamineOptions, examine};

/// Layers whose outputs are off by so many times what rounding is in one honest implementation.
struct Loud {
    trace: Trace,
    _folder: TempDir,
}

impl Loud {
    fn new(checkpoint: &Checkpoint, reference: &Reference, dtype: Precision, draw: u32, times: f64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(folder.path()).unwrap();
        let (config, rows) = (checkpoint.config(), &reference.rows);
        let [batch, seq] = rows.dims();
        let right = Variant::right(config);
        let rounded = Variant { arithmetic: Arithmetic::Rounded { dtype, draw }, ..right.clone() };
        let mut x: Vec<f32> = embedding_rows(checkpoint, &reference.flat_ids())
            .unwrap()
            .into_iter()
            .map(|value| rounded.arithmetic.held(value) as f32)
            .collect();
        for step in 0..=config.num_hidden_layers {
            let site = Site::output(step, config.num_hidden_layers);
            let shape = site.tap.shape(config, batch, seq);
            recorder.write(vec![(site.to_string(), shape, x.clone())]).unwrap();
            if step == config.num_hidden_layers {
                break;
            }
            let weights = LayerWeights::read(checkpoint, step).unwrap();
            let input: Vec<f64> = x.iter().map(|value| f64::from(*value)).collect();
            let run = |variant| run_layer(&weights, config, variant, rows, &input, None);
            let (exact, rounded) = (run(&right), run(&rounded));
            let pairs = exact.get(Tap::LayerOutput).iter().zip(rounded.get(Tap::LayerOutput));
            x = pairs.map(|(exact, rounded)| (exact + times * (rounded - exact)) as f32).collect();
        }
        Self { trace: Trace::recorded(folder.path(), ""), _folder: folder }
    }
}

/// How many of such runs fail, and the causes that are named.
fn judged(place: &str, dtype: Precision, draws: &[u32], times: &[f64]) -> (usize, Vec<String>) {
    let (name, prompt) = place.split_once('/').unwrap();
    let checkpoint = Checkpoint::open(fixtures().join("checkpoints").join(name)).unwrap();
    let file = fixtures().join(name).join(prompt).join("reference.npz");
    let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
    let (mut failed, mut causes) = (0, Vec::new());
    for (draw, times) in draws.iter().flat_map(|draw| times.iter().map(move |times| (*draw, *times))) {
        let loud = Loud::new(&checkpoint, &reference, dtype, draw, times);
        let mut quiet = |_: &str| {};
        let found =
            examine(&checkpoint, &reference, &loud.trace, ExamineOptions::new(dtype, &mut quiet)).unwrap();
        failed += usize::from(!found.verdicts.pass());
        let named = found.diagnosis.causes.into_iter();
        causes.extend(
            named.map(|cause| format!("{place} {dtype}, draw {draw}, {times} times: {}", cause.explanation)),
        );
    }
    (failed, causes)
}

#[test]
fn loud_noise_has_no_cause() {
    let (failed, causes) = judged("experts-mixed/prompt2", Precision::BF16, &[11], &[2.0, 3.0]);
    assert_eq!(causes, [""; 0]);
    assert_eq!(failed, 2, "the noise is within the limits");
}

/// What rounding does to a layer's output lies along what no mistake does to it, so that it is none however loud it is.
#[test]
fn noise_lies_along_no_mistake() {
    for (name, prompt) in
        [("experts", 3), ("experts-mixed", 2), ("gqa-sharded", 2), ("window", 3), ("yarn", 3)]
    {
        let checkpoint = Checkpoint::open(fixtures().join("checkpoints").join(name)).unwrap();
        let file = fixtures().join(format!("{name}/prompt{prompt}/reference.npz"));
        let (config, right) = (checkpoint.config(), Variant::right(checkpoint.config()));
        let reference = Reference::open(&file, config, true).unwrap();
        let rows = &reference.rows;
        let mistakes = in_layers(config, rows.dims()[1]);
        for layer in 0..config.num_hidden_layers {
            let weights = LayerWeights::read(&checkpoint, layer).unwrap();
            let key = Site::output(layer, config.num_hidden_layers).to_string();
            let x = reference.trace.values(&key).unwrap().expect("references have the layers' outputs");
            let run = |variant: &Variant| run_layer(&weights, config, variant, rows, &x, None);
            let exact = run(&right);
            let off = |variant: &Variant| -> Vec<f64> {
                let pairs = run(variant);
                let pairs = pairs.get(Tap::LayerOutput).iter().zip(exact.get(Tap::LayerOutput));
                pairs.map(|(a, b)| a - b).collect()
            };
            let noises: Vec<_> = (11..14)
                .map(|draw| Arithmetic::Rounded { dtype: Precision::BF16, draw })
                .map(|arithmetic| off(&Variant { arithmetic, ..right.clone() }))
                .collect();
            for mistake in &mistakes {
                let change = off(&mistake.variant(&right));
                for noise in &noises {
                    let cosine = dot(&change, noise) / (dot(&change, &change) * dot(noise, noise)).sqrt();
                    let apart = cosine.is_nan() || cosine.abs() < 0.5;
                    assert!(apart, "{name}, layer {layer}: {cosine:.2} if {}", mistake.words);
                }
            }
        }
    }
}
