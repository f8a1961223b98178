//! `verify` as a user meets it: planted faults named, reports written, bad input refused.
#![cfg(feature = "ndarray")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fixture-runner"))
        .arg("verify")
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

/// Runs with `--json` and gives the exit code with the report.
fn report(arguments: &[&str]) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--json", json.to_str().unwrap()]);
    let output = verify(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let code = output.status.code().unwrap();
    (code, serde_json::from_str(&text).unwrap())
}

#[track_caller]
fn assert_refused(arguments: &[&str], words: &[&str]) {
    let output = verify(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

const MODEL: &str = "fixtures/checkpoints/gqa-sharded";
const REFERENCE: &str = "fixtures/gqa-sharded/prompt2/reference.npz";

/// Every id of the catalogue.
const CATALOGUE: [&str; 32] = [
    "rope_interleaved",
    "rope_theta",
    "rope_position_offset",
    "rope_missing",
    "q_norm_missing",
    "k_norm_missing",
    "qk_norm_after_rope",
    "qk_norm_over_hidden",
    "kv_swapped",
    "k_transposed",
    "v_transposed",
    "gate_up_swapped",
    "activation_gelu",
    "eps",
    "rms_weight_offset_one",
    "gqa_interleaved_groups",
    "attention_scale_missing",
    "attention_scale_hidden",
    "causal_mask_missing",
    "causal_mask_off_by_one",
    "residual_missing_attention",
    "residual_missing_mlp",
    "post_norm_is_input_norm",
    "final_norm_missing",
    "final_norm_twice",
    "head_untied",
    "head_tied",
    "embedding_scaled",
    "dtype_rounding",
    "layer_permuted",
    "non_finite",
    "two faults",
];

/// What `verify` says of one entry of the manifest's `observed`.
struct Row {
    good: bool,
    text: String,
    planted: Vec<String>,
}

fn diagnose(entry: &Value) -> Row {
    let text = |key: &str| entry[key].as_str().unwrap().to_string();
    let model = format!("fixtures/checkpoints/{}", text("checkpoint"));
    let (code, report) = report(&[
        "--model",
        &model,
        "--reference",
        &text("reference"),
        "--observed",
        &text("file"),
    ]);
    let ids = |list: &Value, id: fn(&Value) -> &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| id(item).as_str().unwrap().into()).collect()
    };
    let mut planted = ids(&entry["causes"], |id| id);
    let found = ids(&report["diagnosis"]["causes"], |cause| &cause["id"]);
    let first = &report["diagnosis"]["first_divergence"];
    let good = code == 1 && first == &entry["first_divergence"] && found.starts_with(&planted);
    let mark = if good { "ok " } else { "BAD" };
    let text = format!("{mark} {} {first} {found:?}", text("id"));
    if planted.len() == 2 {
        planted.push("two faults".into());
    }
    Row {
        good,
        text,
        planted,
    }
}

/// Activations of Transformers with planted mistakes: each is named, at the tensor where it begins,
/// with no other cause before it.
#[test]
fn every_planted_fault_is_named_first() {
    let text = fs::read_to_string(root().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let observed = manifest["observed"].as_array().unwrap();
    let half = observed.chunks(observed.len().div_ceil(2));
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let threads: Vec<_> = half
            .map(|entries| scope.spawn(|| entries.iter().map(diagnose).collect::<Vec<_>>()))
            .collect();
        let rows = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        rows.collect()
    });
    let wrong = rows.iter().filter(|row| !row.good).count();
    let table: String = rows.iter().map(|row| format!("{}\n", row.text)).collect();
    let named: std::collections::BTreeSet<String> =
        rows.iter().flat_map(|row| row.planted.clone()).collect();
    assert_eq!(wrong, 0, "\n{table}");
    let missing: Vec<_> = CATALOGUE
        .iter()
        .filter(|id| !named.contains(**id))
        .collect();
    assert!(missing.is_empty(), "no fixture plants {missing:?}");
}

#[test]
fn a_right_model_passes_in_all_modes() {
    let arguments = [
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--backend",
        "ndarray",
    ];
    let (code, report) = report(&arguments);
    assert_eq!(code, 0);
    for (field, value) in [
        ("overall_success", Value::Bool(true)),
        ("layers_failed", 0.into()),
    ] {
        assert_eq!(report[field], value, "{field}");
    }
    for field in [
        "model_path",
        "test_input",
        "total_layers_tested",
        "layers_passed",
    ] {
        assert!(!report[field].is_null(), "{field}");
    }
    let layers = report["layer_results"].as_array().unwrap();
    for layer in layers {
        for field in [
            "layer_index",
            "layer_name",
            "input_shape",
            "output_shape",
            "mse",
            "cosine_similarity",
            "relative_error",
            "pass_threshold",
        ] {
            assert!(!layer[field].is_null(), "{field}");
        }
    }
    let names: Vec<_> = layers
        .iter()
        .map(|layer| layer["layer_name"].as_str().unwrap())
        .collect();
    for name in [
        "embedding",
        "layer_0_attention",
        "layer_0_mlp",
        "layer_2",
        "final_norm",
        "logits",
    ] {
        assert!(names.contains(&name), "{name} not in {names:?}");
    }
    let run = &report["runs"][0];
    let modes = |mode: &str| {
        let tensors = run["tensors"].as_array().unwrap();
        tensors
            .iter()
            .filter(|tensor| tensor["mode"] == mode)
            .count()
    };
    assert!(modes("accumulated") > 5 && modes("isolated") > 30 && modes("patched") == 3);
    assert_eq!(run["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(report["diagnosis"]["first_divergence"], Value::Null);
    assert_eq!(report["diagnosis"]["causes"], Value::Array(vec![]));
}

/// A reference of another config: ours is what the checkpoint gives, and the difference is named.
#[test]
fn a_config_that_differs_from_the_references_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(root().join(MODEL)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let changed = text.replace("1000000.0", "10000.0");
    assert_ne!(text, changed);
    fs::write(&config, changed).unwrap();
    let model = folder.path().to_str().unwrap();
    let (code, report) = report(&[
        "--model",
        model,
        "--reference",
        REFERENCE,
        "--backend",
        "ndarray",
    ]);
    assert_eq!(code, 1);
    let diagnosis = &report["diagnosis"];
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_00_output");
    let cause = &diagnosis["causes"][0];
    assert_eq!(cause["id"], "rope_theta");
    let words = cause["explanation"].as_str().unwrap();
    assert!(
        words.contains("the reference") && words.contains("1000000"),
        "{words}"
    );
    // Nothing inside the layers is the reference's own, so no operation is named.
    assert_eq!(diagnosis["operation"], Value::Null);
}

#[test]
fn fewer_tensors_are_enough() {
    // A reference without floors, and observations of two tensors.
    let (code, report) = report(&[
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--observed",
        REFERENCE,
        "--preset",
        "seed-003",
    ]);
    assert_eq!((code, &report["overall_success"]), (0, &Value::Bool(true)));
    assert_eq!(report["limits"], "preset seed-003");
}

#[test]
fn some_layers_only() {
    let arguments = [
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--backend",
        "ndarray",
        "--layers",
        "1..3",
    ];
    let (code, report) = report(&arguments);
    assert_eq!(code, 0);
    let layers = report["layer_results"].as_array().unwrap();
    assert!(
        layers
            .iter()
            .all(|layer| layer["layer_index"].as_i64().unwrap() >= 1)
    );
    assert_refused(
        &[&arguments[..7], &["3..9"]].concat(),
        &["--layers 3..9", "0..3"],
    );
}

#[test]
fn backends_are_compared_without_a_reference() {
    let output = verify(&["--model", MODEL, "--backend", "ndarray", "--ids", "1,2,3"]);
    assert_eq!(output.status.code(), Some(0));
    assert_refused(
        &["--model", MODEL, "--ids", "5,999"],
        &["999", "vocab_size 320"],
    );
}

#[test]
fn reports_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (junit, html) = (path("r.xml"), path("r.html"));
    let observed = "fixtures/observed/gqa-sharded/kv_swapped.npz";
    let output = verify(&[
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--observed",
        observed,
        "--junit",
        &junit,
        "--html",
        &html,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let (junit, html) = (
        fs::read_to_string(junit).unwrap(),
        fs::read_to_string(html).unwrap(),
    );
    assert!(junit.contains("<testsuite") && junit.contains("kv_swapped"));
    assert!(html.contains("kv_swapped") && !html.contains("http://") && !html.contains("https://"));
}

#[test]
fn bad_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.npz");
    let bytes = fs::read(root().join(REFERENCE)).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let cut = cut.to_str().unwrap();
    assert_refused(&["--model", MODEL, "--reference", cut], &["cut.npz"]);
    assert_refused(
        &["--model", "nowhere", "--reference", REFERENCE],
        &["nowhere"],
    );
    let other = "fixtures/mha-untied/prompt1/reference.npz";
    assert_refused(
        &["--model", MODEL, "--reference", other],
        &["reference.npz", "embedding_output"],
    );
    let absent = [
        "--model",
        MODEL,
        "--reference",
        REFERENCE,
        "--json",
        "/no/folder/x.json",
    ];
    assert_refused(&absent, &["/no/folder/x.json"]);
    assert_refused(
        &["--model", MODEL, "--observed", REFERENCE],
        &["--reference"],
    );
}
