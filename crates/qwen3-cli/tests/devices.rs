//! `--device-map`: layers on several devices of this process, and what is refused.
#![cfg(feature = "flex")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

fn generate(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.arg("generate").arg("--model").arg(tiny()).args(["--prompt", "1 2 3 4", "--greedy", "--json"]);
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

/// `generate` with a device map of this text, which lies at the path that is given back.
fn mapped(map: &str, words: &[&str]) -> (PathBuf, Output) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("devices.json");
    std::fs::write(&file, map).unwrap();
    let output = generate(&[&["--device-map", file.to_str().unwrap()], words].concat());
    (file, output)
}

fn ids(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["generated_ids"].clone()
}

#[test]
fn a_map_changes_no_token() {
    let expected = ids(&generate(&[]));
    assert!(expected.as_array().unwrap().len() > 3);
    let (_, whole) = mapped(r#"{"devices": [{"device": "flex", "layers": [0, 3]}]}"#, &[]);
    assert_eq!(ids(&whole), expected);
    if cfg!(feature = "ndarray") {
        for map in [
            r#"{"devices": [{"device": "ndarray", "layers": [0, 1]}, {"device": "flex", "layers": [2, 3]}]}"#,
            // Room for the embedding and a layer; what follows has all the rest.
            r#"{"context": 64, "devices": [{"device": "ndarray", "memory": 1000000}, {"device": "flex", "memory": 9000000}]}"#,
        ] {
            assert_eq!(ids(&mapped(map, &[]).1), expected, "{map}");
        }
    }
}

/// Numbers of the JSON that a command prints, with the layers on one device and on two.
#[track_caller]
fn close(words: &[&str], key: &str) {
    fn numbers(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(values) => values.iter().flat_map(numbers).collect(),
            value => vec![value.as_f64().unwrap()],
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("devices.json");
    let map = |last: &str| {
        let devices = format!(
            r#"{{"devices": [{{"device": "flex", "layers": [0, 0]}}, {{"device": "{last}", "layers": [1, 2]}}]}}"#
        );
        std::fs::write(&file, devices).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
        let output = command.args(words).args(["--json", "--device-map"]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        numbers(&report[key])
    };
    let (one, two) = (map("flex"), map(if cfg!(feature = "ndarray") { "ndarray" } else { "flex" }));
    assert!(!one.is_empty() && one.len() == two.len());
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-4, "{one} and {two}");
    }
}

#[test]
fn vectors_and_scores_come_from_several_devices_too() {
    let checkpoint = |name: &str| tiny().with_file_name(name).to_str().unwrap().to_string();
    let texts = ["--text", "one two three", "four"];
    close(&[&["embed", "--model", &checkpoint("embedding-headless")], &texts[..]].concat(), "embeddings");
    let texts = ["--query", "What?", "--document", "one two three", "four"];
    close(&[&["rerank", "--model", &checkpoint("reranker-tied")], &texts[..]].concat(), "scores");
}

#[test]
fn what_is_wrong_with_a_map_is_said_in_a_line() {
    let unknown = "no such device: a backend, `cuda:N`, `remote:HOST:PORT` or `remote:HOST:PORT/N`";
    let mut cases = vec![
        ("{", "not a JSON object"),
        (r#"{"devices": [{"device": "flex", "layers": [1, 3]}]}"#, "field `devices[0].layers` is [1, 3]"),
        (r#"{"devices": [{"device": "flex", "layers": [0, 4]}]}"#, "expected layers below 4"),
        (r#"{"devices": [{"device": "gpu", "layers": [0, 3]}]}"#, unknown),
        (r#"{"devices": [{"device": "flex:x", "layers": [0, 3]}]}"#, unknown),
        (r#"{"devices": [{"device": "flex:1", "layers": [0, 3]}]}"#, "flex has no device 1"),
        (
            r#"{"context": 64, "devices": [{"device": "flex", "memory": 1000}]}"#,
            "bytes of memory are missing: of `devices[0].memory` 1000 are left for the embedding, layers 0 to 3",
        ),
    ];
    let remote = r#"{"devices": [{"device": "remote:127.0.0.1:9", "layers": [0, 3]}]}"#;
    if !cfg!(feature = "remote") {
        cases.push((remote, "this command was built without remote"));
    }
    if !cfg!(feature = "cuda") {
        let text =
            r#"{"devices": [{"device": "flex", "layers": [0, 1]}, {"device": "cuda:0", "layers": [2, 3]}]}"#;
        cases.push((text, "`devices[1].device` is `cuda:0`: this command was built without cuda"));
    }
    for (map, expected) in cases {
        let (file, output) = mapped(map, &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{map}: {error}");
        assert!(error.contains(expected) && error.contains(file.to_str().unwrap()), "{map}: {error}");
    }
    let (_, output) = mapped(remote, &["--backend", "flex"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("--device-map"), "{error}");
    let absent = generate(&["--device-map", "/nonexistent/map.json"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("/nonexistent/map.json"));
}
