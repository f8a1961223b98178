use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{MODEL, REFERENCE, assert_refused, causes, report, root, verify};

#[test]
fn a_right_model_passes_in_all_modes() {
    let arguments = ["--model", MODEL, "--reference", REFERENCE, "--backend", "ndarray"];
    let (code, report) = report(&arguments);
    assert_eq!(code, 0);
    for (field, value) in [("overall_success", Value::Bool(true)), ("layers_failed", 0.into())] {
        assert_eq!(report[field], value, "{field}");
    }
    for field in ["model_path", "test_input", "total_layers_tested", "layers_passed"] {
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
    let names: Vec<_> = layers.iter().map(|layer| layer["layer_name"].as_str().unwrap()).collect();
    for name in ["embedding", "layer_0_attention", "layer_0_mlp", "layer_2", "final_norm", "logits"] {
        assert!(names.contains(&name), "{name} not in {names:?}");
    }
    let run = &report["runs"][0];
    let modes = |mode: &str| {
        let tensors = run["tensors"].as_array().unwrap();
        tensors.iter().filter(|tensor| tensor["mode"] == mode).count()
    };
    assert!(modes("accumulated") > 5 && modes("isolated") > 30 && modes("patched") == 3);
    assert_eq!(run["tokens"].as_array().unwrap().len(), 8);
    assert_eq!(report["diagnosis"]["first_divergence"], Value::Null);
    assert_eq!(report["diagnosis"]["causes"], Value::Array(vec![]));
}

/// The composition is a variant beside the kernels, which have another rounding.
#[cfg(feature = "flex")]
#[test]
fn kernels_and_compositions_are_judged_alike() {
    for dtype in ["f32", "bf16"] {
        let arguments = ["--model", MODEL, "--reference", REFERENCE, "--backend", "flex", "--dtype", dtype];
        let (code, report) = report(&[&arguments[..], &["--kernels", "on,off"]].concat());
        assert_eq!(code, 0, "{dtype}: {}", report["diagnosis"]);
        let [fast, composed] = &report["runs"].as_array().unwrap()[..] else { panic!("{}", report["runs"]) };
        assert_eq!([&fast["variant"], &composed["variant"]], [&Value::Null, &"without kernels".into()]);
        assert_ne!(fast["tensors"], composed["tensors"], "{dtype}");
    }
}

/// Sharp attention, outlier channels, massive tokens, many layers: our own backends are right on them.
#[test]
fn no_backend_is_accused_on_wild_checkpoints() {
    let runs: &[[&str; 2]] = &[
        ["ndarray", "f32"],
        #[cfg(feature = "flex")]
        ["flex", "f32"],
        #[cfg(feature = "flex")]
        ["flex", "bf16"],
        #[cfg(feature = "tch")]
        ["tch", "f32"],
        #[cfg(feature = "tch")]
        ["tch", "bf16"],
    ];
    for folder in fs::read_dir(root().join("fixtures/wild")).unwrap() {
        let model = folder.unwrap().path();
        let reference = model.join("reference.npz");
        for [backend, dtype] in runs {
            let [model, reference] = [&model, &reference].map(|path| path.to_str().unwrap());
            let arguments =
                ["--model", model, "--reference", reference, "--backend", backend, "--dtype", dtype];
            let (code, report) = report(&arguments);
            assert_eq!(code, 0, "{model} {backend} {dtype}: {}", report["diagnosis"]);
        }
    }
}

/// The checkpoint with another rope_theta in its config.
fn other_theta() -> TempDir {
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
    folder
}

fn run(model: &Path, more: &[&str]) -> (i32, Value) {
    let model = model.to_str().unwrap();
    report(&[&["--model", model, "--reference", REFERENCE], more].concat())
}

/// A reference of another config: ours is what the checkpoint gives, and the difference is named.
#[test]
fn a_config_that_differs_from_the_references_is_explained() {
    let folder = other_theta();
    let (code, report) = run(folder.path(), &[]);
    assert_eq!(code, 1);
    let diagnosis = &report["diagnosis"];
    assert_eq!(diagnosis["first_divergence"]["tensor"], "layer_00_output");
    let cause = &diagnosis["causes"][0];
    assert_eq!(cause["id"], "rope_theta");
    let words = cause["explanation"].as_str().unwrap();
    assert!(words.contains("the reference") && words.contains("1000000"), "{words}");
    // Nothing inside the layers is the reference's own, so no operation is named.
    assert_eq!(diagnosis["operation"], Value::Null);
}

/// One mode alone, and a preset, tell where and why as well.
#[test]
fn every_mode_names_what_differs_first() {
    let folder = other_theta();
    let first = |more: &[&str]| {
        let (code, report) = run(folder.path(), more);
        assert_eq!(code, 1, "{more:?}");
        let diagnosis = report["diagnosis"].clone();
        (diagnosis["first_divergence"].clone(), diagnosis)
    };
    for (more, layer, tensor) in [
        (&["--mode", "isolated"][..], 0, "layer_00_output"),
        (&["--mode", "isolated", "--layers", "1..3"], 1, "layer_01_output"),
        (&["--mode", "accumulated", "--layers", "2.."], 2, "layer_02_output"),
        (&["--preset", "layer-verification"], 0, "layer_00_output"),
        (&["--preset", "bf16-reference", "--mode", "isolated"], 0, "layer_00_output"),
    ] {
        let (first, diagnosis) = first(more);
        assert_eq!(first["layer"], layer, "{more:?}");
        assert_eq!(first["tensor"], tensor, "{more:?}");
        assert_eq!(causes(&diagnosis), ["rope_theta"], "{more:?}");
        let layers = &diagnosis["causes"][0]["layers"];
        assert_eq!(layers[0], layer, "{more:?}");
    }
    let (first, diagnosis) = first(&["--mode", "patched"]);
    assert_eq!((&first["layer"], &first["tensor"]), (&Value::Null, &"logits".into()));
    let note = diagnosis["notes"][0].as_str().unwrap();
    // Right values behind the last layer but one still go through a wrong one.
    assert!(note.contains("injected behind layer 1 "), "{note}");
}

#[test]
fn some_layers_only() {
    let arguments = ["--model", MODEL, "--reference", REFERENCE, "--backend", "ndarray", "--layers", "1..3"];
    let (code, report) = report(&arguments);
    assert_eq!(code, 0);
    let layers = report["layer_results"].as_array().unwrap();
    assert!(layers.iter().all(|layer| layer["layer_index"].as_i64().unwrap() >= 1));
    assert_refused(&[&arguments[..7], &["3..9"]].concat(), &["--layers 3..9", "0..3"]);
}

#[test]
fn there_is_something_to_compare() {
    let given = ["--model", MODEL, "--reference", REFERENCE];
    let patched = ["--mode", "patched", "--layers", "0..2"];
    assert_refused(&[&given[..], &patched].concat(), &["--mode patched", "--layers"]);
    let alone = ["--model", MODEL, "--backend", "ndarray", "--ids", "1,2,3"];
    assert_refused(&alone, &["--reference", "--backend"]);
    assert_refused(
        &["--model", MODEL, "--backend", "ndarray,flex", "--ids", "5,999"],
        &["999", "vocab_size 320"],
    );
}

/// An unavailable backend is not a passing one.
#[test]
fn an_unavailable_backend_is_not_compared() {
    let given = ["--model", MODEL, "--ids", "1,2,3", "--backend", "ndarray,wgpu"];
    let missing = ["--unavailable", "wgpu=no adapter"];
    let (code, report) = report(&[&given[..], &missing].concat());
    assert_eq!(code, 3);
    assert_eq!(report["overall_success"], Value::Bool(false));
    assert_eq!(report["runs"][1]["status"], "unavailable");
    assert_eq!(report["runs"][1]["reason"], "no adapter");
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
    let (junit, html) = (fs::read_to_string(junit).unwrap(), fs::read_to_string(html).unwrap());
    assert!(junit.contains("<testsuite") && junit.contains("kv_swapped"));
    assert!(html.contains("kv_swapped") && !html.contains("http://") && !html.contains("https://"));
}

/// A run of our own has every part of the report: a heatmap for each backend, curves of three modes, margins of
/// tokens, the worst element with its neighbours, the diagnosis.
#[cfg(feature = "flex")]
#[test]
fn a_report_of_two_backends_is_whole() {
    let folder = other_theta();
    let html = folder.path().join("r.html");
    let model = folder.path().to_str().unwrap();
    let output = verify(&[
        "--model",
        model,
        "--reference",
        REFERENCE,
        "--backend",
        "ndarray,flex",
        "--html",
        html.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let html = fs::read_to_string(html).unwrap();
    for id in ["diagnosis", "heatmap", "curves", "tokens", "elements", "pairwise", "runs"] {
        assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    for word in ["rope_theta", "ndarray f32", "flex f32", "accumulated", "isolated", "patched", "margin"] {
        assert!(html.contains(word), "{word}");
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("peak memory") && text.contains("weights in memory one after the other"));
}
