//! The program as a user meets it: a planted mistake named, what is ignored told, bad input refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qwen3_trace::{TensorFile, Values};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::Value;

const MODEL: &str = "fixtures/checkpoints/gqa-sharded";
const REFERENCE: &str = "fixtures/gqa-sharded/prompt2/reference.npz";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs on a file of activations.
fn run(observed: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qwen3-verify"))
        .args(["--model", MODEL, "--reference", REFERENCE, "--observed", observed])
        .args(more)
        .current_dir(root())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let words_of = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(words_of(&text).contains(word), "no {word:?} in:\n{text}");
    }
    if code == 2 {
        assert_eq!((output.stdout.len(), text.lines().count()), (0, 1), "{text}");
    }
}

/// The reference's own tensors as activations, those that `edit` wants, as it leaves name, shape and values.
fn edited(folder: &Path, edit: impl Fn(&mut String, &mut Vec<usize>, &mut Values) -> bool) -> String {
    let source = TensorFile::open(&root().join(REFERENCE)).unwrap();
    let mut kept = Vec::new();
    for mut name in source.names() {
        let array = source.read(&name).unwrap();
        let (mut shape, mut values) = (array.shape, array.values);
        if name.starts_with("noise_floor") || !edit(&mut name, &mut shape, &mut values) {
            continue;
        }
        let (dtype, bytes): (_, Vec<u8>) = match values {
            Values::Float(values) => {
                (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Values::Int(values) => {
                (Dtype::I64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        };
        kept.push((name, dtype, shape, bytes));
    }
    let views: HashMap<&str, TensorView> = kept
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        })
        .collect();
    let file = folder.join("mine.safetensors");
    serialize_to_file(views, None, &file).unwrap();
    file.to_str().unwrap().into()
}

#[test]
fn a_planted_mistake_is_named_in_every_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (json, junit, html) = (path("r.json"), path("r.xml"), path("r.html"));
    let output = run(
        "fixtures/observed/gqa-sharded/kv_swapped.npz",
        &["--json", &json, "--junit", &junit, "--html", &html],
    );
    assert_ends(&output, 1, &["first divergence: layer_00_output", "cause kv_swapped: ", "generated_ids"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("observed f32: FAIL") && !text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains(" - ") && !text.contains("isolated") && !text.contains("e0"), "{text}");
    for report in [&json, &junit, &html] {
        assert!(fs::read_to_string(report).unwrap().contains("kv_swapped"), "{report}");
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let layers = report["layer_results"].as_array().unwrap();
    let ids = layers.iter().find(|layer| layer["layer_name"] == "generated_ids").unwrap();
    assert_eq!(ids["pass_threshold"], false);
}

/// A mistake that the ids alone show: a row of their own fails, and the cause is only consistent with it.
#[test]
fn wrong_ids_fail_in_a_row_of_their_own() {
    for alone in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let file = edited(folder.path(), |name, _, values| {
            if let (Values::Int(ids), "generated_ids") = (values, name.as_str()) {
                ids[14] = (ids[14] + 1) % 300;
            }
            name == "generated_ids" || !alone && name.ends_with("_output")
        });
        let json = folder.path().join("r.json");
        let output = run(&file, &["--json", json.to_str().unwrap()]);
        assert_ends(&output, 1, &["generated_ids", "first wrong at step 3 of 8: ", " instead of "]);
        let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
        assert_eq!(report["layers_failed"], 1);
        let tensors = report["runs"][0]["tensors"].as_array().unwrap();
        let ids = tensors.iter().find(|tensor| tensor["name"] == "generated_ids").unwrap();
        assert_eq!((&ids["pass"], &ids["note"]), (&false.into(), &"first wrong at step 3 of 8".into()));
        assert!(ids["ratio"].as_f64().unwrap() > 1.0);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.lines().any(|line| line.trim_start().starts_with("cause ")), "{text}");
        assert!(text.contains("to know, record"), "{text}");
    }
}

#[test]
fn ids_alone_are_consistent_with_a_cause() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("r.json");
    let observed = "fixtures/observed/gqa-sharded/rope_position_offset-cached_steps.npz";
    let output = run(observed, &["--json", json.to_str().unwrap()]);
    let words = ["consistent with rope_position_offset, by ", " ids", "record `step_logits`"];
    assert_ends(&output, 1, &words);
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let cause = &report["diagnosis"]["causes"][0];
    assert_eq!(cause["id"], "rope_position_offset");
    assert!(cause["evidence"].as_str().unwrap().ends_with(" of 8 ids"), "{cause}");
}

#[test]
fn what_is_ignored_is_told_and_refused_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = edited(folder.path(), |name, _, _| {
        if name == "layer_01_output" {
            *name = "layer_01.outcome".into();
        }
        true
    });
    assert_ends(
        &run(&file, &[]),
        0,
        &["compared 7 tensors; ignored 1: layer_01.outcome (did you mean layer_01_output?)"],
    );
    let refused = run(&file, &["--strict"]);
    assert_ends(
        &refused,
        2,
        &["mine.safetensors", "ignored 1: layer_01.outcome (did you mean layer_01_output?)"],
    );
    let good = edited(folder.path(), |_, _, _| true);
    assert_ends(&run(&good, &["--strict"]), 0, &["compared 8 tensors"]);
}

#[test]
fn names_of_modules_are_read_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = edited(folder.path(), |name, _, _| {
        if let Some(layer) = name.strip_prefix("layer_0").and_then(|rest| rest.strip_suffix("_output")) {
            *name = format!("model.layers.{layer}");
        }
        true
    });
    let read = "read: model.layers.N is layer_N_output, 3 times";
    assert_ends(&run(&file, &["--strict"]), 0, &["compared 8 tensors", read]);
    let names = folder.path().join("names.json");
    fs::write(&names, r#"{"model.layers.{layer}": "layer_{layer}_outputs"}"#).unwrap();
    let refused = run(&file, &["--names", names.to_str().unwrap()]);
    assert_ends(
        &refused,
        2,
        &["mine.safetensors", "`model.layers.0`", "`layer_00_outputs`, which is no key"],
    );
}

#[test]
fn exchanged_axes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = edited(folder.path(), |name, shape, _| {
        if name == "layer_01_output" {
            shape.swap(1, 2);
        }
        true
    });
    let words = ["`layer_01_output`", "[1, 64, 12], expected [1, 12, 64]", "axes 1 and 2 look exchanged"];
    assert_ends(&run(&file, &[]), 2, &words);
}

#[test]
fn a_tolerance_decides_for_every_element() {
    let folder = tempfile::tempdir().unwrap();
    let file = edited(folder.path(), |name, _, values| {
        if let (Values::Float(values), "logits") = (values, name.as_str()) {
            values[7] += 1e-3;
        }
        true
    });
    assert_ends(&run(&file, &[]), 1, &["first divergence: logits"]);
    assert_ends(
        &run(&file, &["--atol", "2e-3"]),
        0,
        &["every |error| <= atol + rtol * |expected|, atol 0.002, rtol 0.0"],
    );
    assert_ends(&run(&file, &["--atol", "5e-4", "--rtol", "1e-9"]), 1, &["atol 0.0005, rtol 1e-9"]);
    assert_ends(&run(&file, &["--fail-only"]), 1, &["logits"]);
    let text = String::from_utf8(run(&file, &["--fail-only"]).stdout).unwrap();
    assert!(!text.contains("  layer 0 "), "{text}");
}

#[test]
fn bad_input_ends_with_2_and_one_line() {
    assert_ends(&run("no/such.npz", &[]), 2, &["no/such.npz"]);
    assert_ends(&run("fixtures/gqa-sharded/prompt1/reference.npz", &[]), 2, &["prompt1/reference.npz"]);
    assert_ends(&run(REFERENCE, &["--json", REFERENCE]), 2, &["--json", "it is an input"]);
    let without = Command::new(env!("CARGO_BIN_EXE_qwen3-verify")).args(["--model", MODEL]).output().unwrap();
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains("--observed"));
}
