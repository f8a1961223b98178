//! What is read as which report, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::{Status, diff, html, sample};

fn read(report: &Value) -> Result<AnyReport, ReadError> {
    AnyReport::from_json(&report.to_string(), "FILE")
}

/// The last bit of a number that is read may differ.
fn rounded(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(format!("{:.9e}", number.as_f64().unwrap())),
        Value::Array(values) => values.into_iter().map(rounded).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, rounded(value))).collect())
        }
        other => other,
    }
}

fn read_error(report: &Value) -> String {
    read(report).unwrap_err().to_string()
}

/// A tensor as parity has it, and verify with more; numbers that are not finite are null.
fn tensor() -> Value {
    json!({
        "name": "output", "shape": [1, 2], "mse": null, "max_abs": null, "max_abs_index": [0, 1], "relative": null,
        "cosine": null, "nmse": null, "max_ulp": null, "noise_floor": 0.1, "limit": null, "rms": 0.1,
        "noise_floor_rms": 0.1, "limit_rms": 0.4, "expected": 1.0, "observed": null, "pass": false,
    })
}

fn case() -> Value {
    json!({
        "case": "norm-00", "kind": "rms_norm", "backend": "flex", "dtype": "bf16", "status": "fail",
        "elapsed_ms": 4.0, "tensors": [tensor()],
    })
}

fn run() -> Value {
    let mut tensor = tensor();
    for (key, value) in [
        ("mode", json!("isolated")),
        ("layer", json!(3)),
        ("derived", json!(false)),
        ("ratio", json!(null)),
        ("neighbours", json!({"axis": 1, "start": 0, "expected": [0.5, 1.0], "observed": [0.5, null]})),
        ("kl_divergence", json!(null)),
    ] {
        tensor[key] = value;
    }
    json!({
        "backend": "wgpu", "dtype": "f32", "variant": "without fusion", "status": "fail", "reason": null,
        "switches": {"fusion": false, "autotune": true}, "elapsed_ms": 12.5, "peak_rss_mb": null,
        "tensors": [tensor],
        "tokens": [{"row": 0, "step": 1, "position": 6, "expected": 7, "observed": -1, "margin": null, "tie": false,
                    "kl_divergence": null, "regret_nats": null}],
        "diagnosis": {"first_divergence": {"layer": 3, "tensor": "output"}, "operation": null, "causes": [],
                      "error_shape": [], "notes": []},
    })
}

fn with(mut value: Value, fields: Value) -> Value {
    for (key, field) in fields.as_object().unwrap() {
        value[key] = field.clone();
    }
    value
}

fn verify(run: Value) -> Value {
    json!({
        "schema": 1, "burn": "0.22.1", "model_path": "m", "reference": "r.npz", "observed": null, "test_input": "a",
        "preset": null, "limits": "l", "overall_success": false, "total_layers_tested": 1, "layers_passed": 0,
        "layers_failed": 1, "layer_results": [], "diagnosis": null, "runs": [run], "pairwise": [], "consensus": null,
        "memory": {"peak_rss_mb": null, "embedding_mb": 1.0, "layer_mb": 1.0, "head_mb": 1.0, "model_mb": 4.0},
    })
}

#[test]
fn what_is_written_is_read() {
    let report = sample::report(5);
    let AnyReport::Verify(read) = AnyReport::from_json(&report.to_json(), "FILE").unwrap() else {
        panic!("it is a verification");
    };
    // The last bit of a number may differ.
    assert_eq!(html::render(&read), html::render(&report));
    let [old, new] = [report, read].map(AnyReport::Verify);
    assert_eq!(diff::compare(&old, &new, ["OLD", "NEW"]).unwrap().exit_code(), 0);
    let results = vec![serde_json::from_value(case()).unwrap()];
    let report = ParityReport { results, ..ParityReport::default() };
    let read = AnyReport::from_json(&report.to_json(), "FILE").unwrap();
    assert_eq!(read, AnyReport::Parity(report));
}

#[test]
fn a_benchmark_is_told_by_its_rows() {
    let report = sample::bench();
    let AnyReport::Bench(read) = AnyReport::from_json(&report.to_json(), "FILE").unwrap() else {
        panic!("it is a benchmark");
    };
    let values = [&read, &report].map(|report| rounded(serde_json::to_value(report).unwrap()));
    assert!(values[0] == values[1], "{}", values[0]);
    let error = |change: &dyn Fn(&mut Value)| {
        let mut report = serde_json::to_value(&report).unwrap();
        change(&mut report);
        read_error(&report)
    };
    let empty = error(&|report| report["rows"][0]["samples"] = json!([]));
    assert_eq!(empty, "FILE: flex f32, load has no samples");
    let none = error(&|report| report["rows"][0]["samples"] = json!([null]));
    assert!(none.starts_with("FILE: invalid type: null, expected f64"), "{none}");
    let phase = error(&|report| report["rows"][0]["phase"] = json!("sleep"));
    assert!(phase.contains("unknown variant `sleep`"), "{phase}");
    let both = error(&|report| report["runs"] = json!([]));
    assert!(both.contains("one of `runs`, `results` and `rows`"), "{both}");
}

#[test]
fn reports_of_the_old_form_are_read() {
    for (old, new) in [("seed-003", "layer-verification"), ("seed-004", "bf16-reference")] {
        let AnyReport::Verify(report) = read(&with(verify(run()), json!({"preset": old}))).unwrap() else {
            panic!("it is a verification");
        };
        assert_eq!(report.preset.unwrap().name(), new);
        let run = &report.runs[0];
        assert_eq!(run.label.to_string(), "wgpu f32 (without fusion)");
        assert_eq!((run.status, run.timings.len()), (Status::Fail, 0));
        let verdict = &run.verdicts.tensors[0].verdict;
        assert_eq!((verdict.limit, verdict.max_abs), (f64::INFINITY, None));
    }
    let stopped = json!({"status": "unavailable", "tensors": null, "tokens": null, "diagnosis": null, "reason": "none"});
    let mut bare = with(run(), stopped);
    read(&verify(bare.clone())).unwrap();
    for key in
        ["tensors", "tokens", "diagnosis", "variant", "switches", "peak_rss_mb", "elapsed_ms", "reason"]
    {
        bare.as_object_mut().unwrap().remove(key);
    }
    let old = read(&json!({"schema": 1, "runs": [bare]})).unwrap();
    let new = read(&verify(run())).unwrap();
    assert_eq!(diff::compare(&old, &new, ["OLD", "NEW"]).unwrap().new.len(), 1);
    let without = with(case(), json!({"status": "crash", "tensors": null, "reason": "signal 11"}));
    read(&json!({"schema": 1, "burn": "0.22.1", "results": [case(), without]})).unwrap();
}

#[test]
fn what_is_no_report_is_an_error() {
    let error = |report: Value| read_error(&report);
    assert!(error(json!({})).contains("FILE is no report: it has no `schema`"));
    for other in [json!([1]), json!(null), json!("report"), json!(1)] {
        assert!(error(other).contains("FILE is no report"));
    }
    assert!(error(json!({"schema": 2, "runs": []})).contains("FILE has schema 2, not 1"));
    let either = "it needs one of `runs`, `results` and `rows`";
    assert!(error(json!({"schema": 1})).contains(either));
    assert!(error(json!({"schema": 1, "runs": [], "results": []})).contains(either));
    let mut nameless = tensor();
    nameless.as_object_mut().unwrap().remove("name");
    let mut unjudged = run();
    unjudged["tensors"][0].as_object_mut().unwrap().remove("pass");
    let broken = [
        (with(run(), json!({"status": null})), "at line 1 column "),
        (with(run(), json!({"status": "perhaps"})), "unknown variant `perhaps`"),
        (with(run(), json!({"tensors": [nameless]})), "missing field `"),
        (unjudged, "missing field `pass`"),
        (with(run(), json!({"tensors": {}})), "expected a sequence"),
        (with(run(), json!({"backend": 3})), "expected a string"),
        (with(run(), json!({"dtype": "f64"})), "unknown variant `f64`"),
    ];
    for (run, message) in broken {
        let error = error(verify(run));
        assert!(error.starts_with("FILE: ") && error.contains(message), "{error}");
    }
    let text = AnyReport::from_json("{", "FILE").unwrap_err().to_string();
    assert!(text.starts_with("FILE: EOF while parsing"), "{text}");
}

#[test]
fn only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| AnyReport::read(path).unwrap_err().to_string();
    assert!(error(folder.path()).ends_with("not a regular file"));
    let file = folder.path().join("report.json");
    assert!(error(&file).starts_with(&file.display().to_string()));
    fs::write(&file, sample::report(4).to_json()).unwrap();
    assert_eq!(AnyReport::read(&file).unwrap().kind(), ReportKind::Verify);
}
