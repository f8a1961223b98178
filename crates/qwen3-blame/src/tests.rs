mod loud_noise;
mod real_norms;

use std::path::Path;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Precision, Rows, Tap};
use qwen3_trace::TensorFile;

use crate::error_shape::describe;
use crate::probe::run_layer;
use crate::rounding::{format_of, round};
use crate::variant::Variant;
use crate::weights::LayerWeights;

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Every tap of the right variant is the float64 oracle's, but for the rounding of the file to f32.
#[test]
fn the_right_variant_is_the_oracle() {
    for checkpoint in ["gqa-tied", "mha-untied", "gqa-sharded", "bias-tied"] {
        let folder = fixtures().join(checkpoint).join("layer-1/decoder.safetensors");
        let file = TensorFile::open(&folder).unwrap();
        let checkpoint = Checkpoint::open(fixtures().join("checkpoints").join(checkpoint)).unwrap();
        let config = checkpoint.config().clone();
        let positions = file.read("position_ids").unwrap();
        let positions: Vec<Vec<usize>> = positions
            .ints("position_ids")
            .unwrap()
            .chunks(positions.shape[1])
            .map(|row| row.iter().map(|position| *position as usize).collect())
            .collect();
        let tokens = Rows { visible: positions.iter().map(|row| vec![true; row.len()]).collect(), positions };
        let wide = |name: &str| file.read(name).unwrap().wide(name).unwrap();
        let weights = LayerWeights::read(&checkpoint, 1).unwrap();
        let right = Variant::right(&config);
        let x = wide("hidden_states");
        let taps = run_layer(&weights, &config, &right, &tokens, &x, None);
        for tap in Tap::of_kind(config.layer(1).feed_forward) {
            let expected = wide(tap.name());
            let largest = expected.iter().fold(0.0_f64, |m, e| m.max(e.abs()));
            let found = taps.get(tap);
            assert_eq!(found.len(), expected.len(), "{tap:?}");
            for (found, expected) in found.iter().zip(&expected) {
                let error = (found - expected).abs();
                assert!(error <= 1e-7 * largest, "{tap:?}: {found} and {expected}");
            }
        }
        // The runs of other variants take the projections from this one.
        let again = run_layer(&weights, &config, &right, &tokens, &x, Some((&right, &taps)));
        assert_eq!(again.get(Tap::LayerOutput), taps.get(Tap::LayerOutput));
    }
}

/// One row of a weight that is wrong shows in one feature.
#[test]
fn a_few_features_are_named() {
    let tokens = Rows::unpadded(1, 5);
    let expected: Vec<f64> = (0..5 * 40).map(|i| (i as f64 * 1.7).sin()).collect();
    let observed = |wrong: &[usize]| -> Vec<f64> {
        let off =
            |(i, e): (usize, &f64)| if wrong.contains(&(i % 40)) { 1.01 * e + (i as f64).cos() } else { *e };
        expected.iter().enumerate().map(off).collect()
    };
    let words = |wrong: &[usize]| describe(&observed(wrong), &expected, &tokens, Some(4), 1e-6).join("; ");
    assert_eq!(words(&[17]), "some features only: [17]");
    assert_eq!(words(&[3, 4, 5, 21]), "some features only: [3..=5, 21]");
    let head: Vec<usize> = (10..20).collect();
    assert_eq!(words(&head), "some heads only: [1] of 4");
}

/// Eight tokens of six features; no two alike.
fn values() -> (Vec<f64>, Rows) {
    let values = (0..48).map(|i| (i as f64 * 1.7).sin() + 0.1 * i as f64);
    let tokens = Rows { positions: vec![(0..8).collect()], visible: vec![vec![true; 8]] };
    (values.collect(), tokens)
}

fn shape(change: impl Fn(usize, f64) -> f64, heads: Option<usize>) -> String {
    let (expected, tokens) = values();
    let observed: Vec<f64> = expected.iter().enumerate().map(|(i, e)| change(i, *e)).collect();
    describe(&observed, &expected, &tokens, heads, 1e-6).join("; ")
}

#[test]
fn errors_are_described_by_their_shape() {
    assert!(shape(|_, e| 2.5 * e, None).contains("scale: observed = 2.500000"));
    assert!(shape(|_, e| e + 0.5, None).contains("constant shift of 5.0"));
    assert!(shape(|i, e| e + (i % 6) as f64, None).contains("shift of each feature"));
    let heads = shape(|i, e| if i % 6 < 2 { e + (i as f64).cos() } else { e }, Some(3));
    assert!(heads.contains("some heads only: [0] of 3"), "{heads}");
    let some = shape(|i, e| if i / 6 >= 5 { e + (i as f64).cos() } else { e }, None);
    assert!(some.contains("some positions only: 5..=7"), "{some}");
    let grows = shape(|i, e| e + (i as f64).cos() * 1e-3 * ((i / 6) as f64).exp(), None);
    assert!(grows.contains("growing with the position"), "{grows}");
    assert!(shape(|i, e| if i == 7 { f64::NAN } else { e }, None).contains("1 of 48"));
}

#[test]
fn a_rotation_keeps_lengths() {
    let (expected, tokens) = values();
    let turned: Vec<f64> = expected
        .chunks(2)
        .flat_map(|pair| [0.6 * pair[0] - 0.8 * pair[1], 0.8 * pair[0] + 0.6 * pair[1]])
        .collect();
    let words = describe(&turned, &expected, &tokens, None, 1e-6).join("; ");
    assert!(words.contains("a rotation"), "{words}");
}

#[test]
fn half_precisions_are_recognised() {
    let values = [0.1, -3.7, 1234.5678];
    for dtype in [Precision::BF16, Precision::F16] {
        let rounded = values.map(|value| round(value, dtype));
        assert_eq!(format_of(&rounded), Some(dtype));
    }
    assert_eq!(format_of(&values), None);
}
