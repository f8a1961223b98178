//! An embedding that was quantised.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use qwen3_blame::{ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Array, Precision, Reference, Trace, Values};

const KEY: &str = "embedding_output";

/// ggml's `quantize_row_q8_0_ref`, and back.
fn eight_bits(block: &mut [f32]) {
    let scale = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())) / 127.0;
    let stored = f16::from_f32(scale).to_f32();
    block.iter_mut().for_each(|x| *x = (*x * (1.0 / scale)).round() * stored);
}

/// The causes of a run of which the embedding alone was observed, each value changed.
fn causes(change: impl Fn(&mut [f32])) -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let checkpoint = Checkpoint::open(fixtures.join("checkpoints/gqa-tied")).unwrap();
    let file = fixtures.join("gqa-tied/prompt1/reference.npz");
    let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
    let right = reference.trace.array(KEY).unwrap().unwrap();
    let mut values = right.floats(KEY).unwrap().to_vec();
    values.chunks_mut(32).for_each(change);
    let tensors = BTreeMap::from([(KEY.into(), Array { shape: right.shape, values: Values::Float(values) })]);
    let observed = Trace::in_memory(Path::new("mine.npz"), tensors);
    let mut quiet = |_: &str| {};
    let found =
        examine(&checkpoint, &reference, &observed, ExamineOptions::new(Precision::F32, &mut quiet)).unwrap();
    assert!(!found.verdicts.pass());
    found.diagnosis.causes.into_iter().map(|cause| cause.id).collect()
}

#[test]
fn an_embedding_in_blocks_is_told_from_a_noisy_one() {
    assert_eq!(causes(eight_bits), ["weights_q8_0"]);
    let noise = |block: &mut [f32]| {
        block.iter_mut().enumerate().for_each(|(index, x)| *x *= 1.0 + 3e-3 * (index as f32).sin());
    };
    assert_eq!(causes(noise), [""; 0]);
}
