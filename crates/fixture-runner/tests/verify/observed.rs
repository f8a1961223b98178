use serde_json::Value;

use crate::common::{MODEL, REFERENCE, assert_refused, causes, edited, observe};

const KV_SWAPPED: &str = "fixtures/observed/gqa-sharded/kv_swapped.npz";

/// Noise that is no mistake: uniform in -1..=1, the same every time.
fn noise(seed: &mut u64) -> f32 {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
}

/// Noise within the limits passes. More than that fails and is not taken for a mistake, however little it is
/// too much.
#[test]
fn noise_has_no_cause() {
    for (size, code) in [(5e-8, 0), (2e-6, 1), (1e-5, 1), (1e-2, 1)] {
        let mut seed = 7;
        let (_folder, file) = edited(REFERENCE, |name, values| {
            let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            for value in values.iter_mut() {
                *value += size * largest * noise(&mut seed);
            }
            name == "layer_00_output"
        });
        let (found, diagnosis) = observe(&file, &[]);
        assert_eq!(found, code, "{size}");
        assert_eq!(causes(&diagnosis), [""; 0], "{size}: {diagnosis}");
        let first = &diagnosis["first_divergence"];
        assert_eq!(first.is_null(), code == 0, "{size}");
        if code == 1 {
            let notes = diagnosis["notes"].to_string();
            assert!(notes.contains("nothing in the catalogue explains"), "{notes}");
        }
    }
}

#[test]
fn an_error_that_nothing_explains_is_described() {
    let (_folder, file) = edited(REFERENCE, |name, values| {
        if name == "layer_01_output" {
            values.iter_mut().for_each(|value| *value *= 1.25);
        }
        name.starts_with("layer_0")
    });
    let (code, diagnosis) = observe(&file, &[]);
    assert_eq!((code, causes(&diagnosis)), (1, vec![]));
    assert_eq!(diagnosis["first_divergence"]["layer"], 1);
    let shape = diagnosis["error_shape"].to_string();
    assert!(shape.contains("a scale: observed = 1.25"), "{shape}");
}

/// As the last entry of Transformers' `hidden_states` is: no mistake of the model's.
#[test]
fn a_last_layer_with_the_final_norm_applied() {
    let mut normed = Vec::new();
    let _ = edited(REFERENCE, |name, values| {
        if name == "final_norm_output" {
            normed.clone_from(values);
        }
        true
    });
    let (_folder, file) = edited(REFERENCE, |name, values| {
        if name == "layer_02_output" {
            values.clone_from(&normed);
        }
        name.ends_with("_output") || name == "logits"
    });
    let (code, diagnosis) = observe(&file, &[]);
    assert_eq!((code, causes(&diagnosis)), (1, vec![]));
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_02_output");
    let notes = diagnosis["notes"].to_string();
    assert!(notes.contains("with the final norm applied"), "{notes}");
    assert!(!notes.contains("nothing in the catalogue"), "{notes}");
}

/// As the entries of `hidden_states` are numbered: no layer has another's weights.
#[test]
fn names_that_are_shifted_by_one() {
    let mut last = Vec::new();
    let (_folder, file) = edited(REFERENCE, |name, values| {
        let layer = name.starts_with("layer_");
        if layer || name == "embedding_output" {
            let own = values.clone();
            if layer {
                values.clone_from(&last);
            }
            last = own;
        }
        layer
    });
    let (code, diagnosis) = observe(&file, &[]);
    assert_eq!((code, causes(&diagnosis)), (1, vec!["taps_shifted"]));
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_00_output");
    let words = diagnosis["causes"][0]["explanation"].as_str().unwrap();
    assert!(words.contains("`layer_00_output` holds the embedding"), "{words}");
}

/// What a run in f32 gave, stored in bf16: the mistake is found all the same.
#[test]
fn a_mistake_stored_in_half_precision() {
    let (_folder, file) = edited(KV_SWAPPED, |_, values| {
        for value in values.iter_mut() {
            *value = half::bf16::from_f32(*value).to_f32();
        }
        true
    });
    let (code, diagnosis) = observe(&file, &[]);
    assert_eq!((code, causes(&diagnosis)), (1, vec!["dtype_rounding", "kv_swapped"]));
    let (code, diagnosis) = observe(&file, &["--dtype", "bf16"]);
    assert_eq!((code, causes(&diagnosis)), (1, vec!["kv_swapped"]));
}

/// A reference without floors, and observations of two tensors.
#[test]
fn fewer_tensors_are_enough() {
    let (_one, bare) = edited(REFERENCE, |name, _| !name.starts_with("noise_floor"));
    let (_two, few) = edited(KV_SWAPPED, |name, _| ["layer_01_output", "logits"].contains(&name));
    let (bare, few) = (bare.to_str().unwrap(), few.to_str().unwrap());
    let arguments = ["--model", MODEL, "--reference", bare, "--observed", few];
    let (code, report) = crate::common::report(&arguments);
    assert_eq!(code, 1);
    let limits = report["limits"].as_str().unwrap();
    assert!(limits.contains("stated dtype f32"), "{limits}");
    let diagnosis = &report["diagnosis"];
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_01_output");
    assert_eq!(causes(diagnosis), ["kv_swapped"]);
}

#[test]
fn presets_decide() {
    // Scaled so that the mean squared error is this.
    let embeddings = |mse: f32| {
        edited(REFERENCE, move |name, values| {
            let squares: f32 = values.iter().map(|value| value * value).sum();
            let factor = 1.0 + (mse / squares * values.len() as f32).sqrt();
            values.iter_mut().for_each(|value| *value *= factor);
            name == "embedding_output"
        })
    };
    for (mse, calibrated, layer_verification, bf16_reference) in
        [(2e-6, 1, 0, 0), (3e-5, 1, 0, 1), (2e-4, 1, 1, 1)]
    {
        let (_folder, file) = embeddings(mse);
        let code = |more: &[&str]| {
            let (code, diagnosis) = observe(&file, more);
            let named = causes(&diagnosis).first() == Some(&"embedding_scaled");
            assert_eq!(named, code == 1, "{mse} {more:?}");
            code
        };
        assert_eq!(code(&[]), calibrated, "{mse}");
        assert_eq!(code(&["--preset", "layer-verification"]), layer_verification, "{mse}");
        assert_eq!(code(&["--preset", "bf16-reference"]), bf16_reference, "{mse}");
    }
}

/// Of observed activations too, `--layers` names the ones to look at.
#[test]
fn layers_of_somebody_else() {
    let (_folder, file) = edited(REFERENCE, |name, values| {
        if name == "layer_00_output" {
            values[3] += 1.0;
        }
        name.ends_with("_output")
    });
    assert_eq!(observe(&file, &[]).0, 1);
    let (code, diagnosis) = observe(&file, &["--layers", "1.."]);
    assert_eq!((code, &diagnosis["first_divergence"]), (0, &Value::Null));
    let (code, diagnosis) = observe(KV_SWAPPED.as_ref(), &["--layers", "2"]);
    assert_eq!(code, 1);
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_02_output");
    assert_eq!(causes(&diagnosis), ["kv_swapped"]);
    assert_eq!(diagnosis["causes"][0]["layers"], serde_json::json!([2]));
}

#[test]
fn another_prompt_is_refused() {
    let given = ["--model", MODEL, "--reference", REFERENCE, "--observed"];
    let other = "fixtures/gqa-sharded/prompt1/reference.npz";
    assert_refused(&[&given[..], &[other]].concat(), &["prompt1/reference.npz"]);
}

/// What somebody saved of one sequence, as a framework without batches has it.
#[test]
fn tensors_without_a_batch_axis() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    let mut tensors = Vec::new();
    let _ = edited(KV_SWAPPED, |name, values| {
        if !values.is_empty() && name != "logits" {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            tensors.push((name.to_string(), values.len(), bytes.collect::<Vec<_>>()));
        }
        true
    });
    let views = tensors.iter().map(|(name, count, bytes)| {
        let shape = vec![count / 64, 64];
        (name, TensorView::new(Dtype::F32, shape, bytes).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("observed.safetensors");
    serialize_to_file(views, None, &file).unwrap();
    let (code, diagnosis) = observe(&file, &[]);
    assert_eq!((code, causes(&diagnosis)), (1, vec!["kv_swapped"]));
}
