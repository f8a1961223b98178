//! The program as a user meets it: exit codes, reports and refusals, on copies of the repository's fixtures.
#![cfg(all(feature = "ndarray", feature = "flex"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the manifest and the fixtures, to be spoiled.
struct Copy {
    folder: tempfile::TempDir,
    manifest: Value,
}

impl Copy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_all(&root().join("fixtures"), &folder.path().join("fixtures"));
        let text = fs::read_to_string(root().join("manifest.json")).unwrap();
        Self { folder, manifest: serde_json::from_str(&text).unwrap() }
    }

    fn case(&mut self, id: &str) -> &mut Value {
        let cases = self.manifest["cases"].as_array_mut().unwrap();
        cases.iter_mut().find(|case| case["id"] == id).unwrap()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Changes the last bytes of a tensor file and writes its new hash into the manifest.
    fn spoil(&mut self, file: &str, tail: &[u8]) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        let start = bytes.len() - tail.len();
        bytes[start..].copy_from_slice(tail);
        fs::write(self.path(file), &bytes).unwrap();
        self.manifest["files"][file] = hash(&bytes);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let manifest = self.path("manifest.json");
        fs::write(&manifest, self.manifest.to_string()).unwrap();
        Command::new(env!("CARGO_BIN_EXE_fixture-runner"))
            .arg("parity")
            .arg("--manifest")
            .arg(manifest)
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy_all(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn hash(bytes: &[u8]) -> Value {
    let digest = Sha256::digest(bytes);
    json!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

const NORM: &str = "gqa-tied/layer-1/norm-00";
const NORM_FILE: &str = "fixtures/gqa-tied/layer-1/norm-00.safetensors";

#[test]
fn passes_and_writes_every_metric() {
    let copy = Copy::new();
    let json = copy.path("report.json");
    let output = copy.run(&["--filter", "layer-1", "--json", json.to_str().unwrap()]);
    assert_ends(&output, 0, &["flex f32", NORM, "pass", " 0 failed"]);
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["burn"]), (&json!(1), &json!("0.22.1")));
    let results = report["results"].as_array().unwrap();
    for result in results {
        for field in ["case", "kind", "backend", "dtype", "status", "elapsed_ms"] {
            assert!(!result[field].is_null(), "{field}");
        }
        for tensor in result["tensors"].as_array().unwrap() {
            for field in [
                "name",
                "shape",
                "mse",
                "max_abs",
                "max_abs_index",
                "relative",
                "cosine",
                "nmse",
                "max_ulp",
                "noise_floor",
                "limit",
                "pass",
            ] {
                assert!(!tensor[field].is_null(), "{field}");
            }
        }
    }
}

/// Where there are kernels, a case is run with them and without; elsewhere once.
#[test]
fn kernels_and_compositions_are_two_runs() {
    let copy = Copy::new();
    let json = copy.path("report.json");
    let run = |kernels: &str| {
        let words =
            ["--backend", "ndarray,flex", "--dtype", "f32", "--filter", "gqa-tied/prompt1", "--kernels"];
        let words = words.into_iter().chain([kernels, "--json", json.to_str().unwrap()]);
        let output = copy.run(&words.collect::<Vec<_>>());
        assert_ends(&output, 0, &[" 0 failed"]);
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let results = report["results"].as_array().unwrap().clone();
        let label = |result: &Value| [&result["backend"], &result["variant"]].map(Value::clone);
        let mut labels: Vec<_> = results.iter().map(label).collect();
        labels.dedup();
        (labels, text(&output))
    };
    let [ndarray, fast, composed] = [
        [json!("ndarray"), Value::Null],
        [json!("flex"), Value::Null],
        [json!("flex"), json!("without kernels")],
    ];
    let (labels, text) = run("on,off");
    assert_eq!(labels, [ndarray.clone(), fast.clone(), composed.clone()]);
    assert!(text.contains("\nflex f32 (without kernels)\n"), "{text}");
    assert_eq!(run("on").0, [ndarray.clone(), fast]);
    assert_eq!(run("off").0, [ndarray, composed]);
}

/// What failed is in the JUnit report, and alone on the screen where that is asked for.
#[test]
fn junit_has_every_case_and_fail_only_prints_the_failures() {
    let mut copy = Copy::new();
    copy.spoil("fixtures/gqa-tied/layer-1/mlp-01.safetensors", &9.0_f32.to_le_bytes());
    let junit = copy.path("report.xml");
    let report = junit.to_str().unwrap();
    let words = ["--filter", "gqa-tied/layer-1/mlp-0", "--dtype", "f32", "--fail-only", "--junit", report];
    let output = copy.run(&words);
    assert_ends(&output, 1, &["gqa-tied/layer-1/mlp-01", "FAIL", "3 passed, 1 failed"]);
    assert!(!text(&output).contains("mlp-00"), "{}", text(&output));
    let xml = fs::read_to_string(&junit).unwrap();
    assert_eq!((xml.matches("<testcase").count(), xml.matches("<failure").count()), (4, 1), "{xml}");
    let same = [&words[..], &["--json", report]].concat();
    assert_ends(&copy.run(&same), 2, &["--junit", "report.xml"]);
}

#[test]
fn usage_errors_end_with_2() {
    let copy = Copy::new();
    assert_ends(&copy.run(&["--backend", "metal"]), 2, &["metal"]);
    assert_ends(&copy.run(&["--dtype", "f64"]), 2, &["f64"]);
    assert_ends(&copy.run(&["--filter", "no-such-case"]), 2, &["no-such-case"]);
    let json = copy.path("no/such/folder.json");
    let output = copy.run(&["--filter", NORM, "--json", json.to_str().unwrap()]);
    assert_ends(&output, 2, &["folder.json"]);
    assert_ends(&copy.run(&["--list"]), 0, &[NORM, "full_model"]);
}

#[test]
fn a_tampered_file_ends_with_2_and_its_name() {
    let copy = Copy::new();
    let mut bytes = fs::read(copy.path(NORM_FILE)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(copy.path(NORM_FILE), bytes).unwrap();
    assert_ends(&copy.run(&["--filter", NORM]), 2, &["norm-00.safetensors"]);
}

#[test]
fn a_wrong_expectation_fails_with_the_element_and_a_cause() {
    let mut copy = Copy::new();
    // The file ends with the last element of `output`.
    let file = "fixtures/gqa-tied/layer-1/mlp-01.safetensors";
    copy.spoil(file, &9.0_f32.to_le_bytes());
    let output = copy.run(&["--filter", "gqa-tied/layer-1/mlp-01"]);
    let words = ["FAIL", "first to differ: output", "[0, 0, 63]", "likely cause: "];
    assert_ends(&output, 1, &words);
}

#[test]
fn expected_failures_pass_and_unexpected_passes_fail() {
    let mut copy = Copy::new();
    let known = json!([{"backend": "flex", "dtype": "f32", "reason": "upstream 42"}]);
    copy.case(NORM)["expected_failures"] = known;
    assert_ends(&copy.run(&["--filter", NORM]), 1, &["FAIL", "upstream 42"]);
}

#[test]
fn a_path_out_of_the_folder_ends_with_2() {
    for outside in ["../norm.safetensors", "/etc/hostname", "fixtures/../../x.safetensors"] {
        let mut copy = Copy::new();
        copy.case(NORM)["inputs"]["file"] = json!(outside);
        copy.manifest["files"][outside] = hash(b"");
        assert_ends(&copy.run(&["--filter", NORM]), 2, &[outside]);
    }
}

#[test]
fn a_bad_weight_ends_with_2_file_and_key() {
    let mut copy = Copy::new();
    let file = "fixtures/checkpoints/mha-untied/model.safetensors";
    let mut bytes = fs::read(copy.path(file)).unwrap();
    let start = bytes.len() - 4;
    bytes[start..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(copy.path(file), &bytes).unwrap();
    copy.manifest["checkpoints"]["mha-untied"]["files"]["model.safetensors"] = hash(&bytes);
    let output = copy.run(&["--filter", "mha-untied/prompt1"]);
    assert_ends(&output, 2, &["model.safetensors", "NaN", "tensor `"]);
}

#[test]
fn an_unavailable_backend_ends_with_3_only_when_named() {
    let copy = Copy::new();
    let reason = ["--unavailable", "tch=no network", "--filter", NORM];
    let named = copy.run(&[&["--backend", "tch,ndarray"][..], &reason].concat());
    assert_ends(&named, 3, &["unavailable", "no network", "1 passed"]);
    let cuda = copy.run(&["--backend", "cuda", "--filter", NORM]);
    assert_ends(&cuda, 3, &["built without the `cuda` feature"]);
    let dtype = copy.run(&["--backend", "ndarray", "--dtype", "bf16", "--filter", NORM]);
    assert_ends(&dtype, 3, &["ndarray does not compute in bf16"]);
}

#[test]
fn attention_without_its_mask_fails_where_it_attends() {
    let mut copy = Copy::new();
    copy.case("attention/kv_sharing")["attention"]["causal"] = json!(false);
    let output = copy.run(&["--filter", "kv_sharing"]);
    let words = ["FAIL", "first to differ: context", "likely cause: the attention product"];
    assert_ends(&output, 1, &words);
}

/// With a floor of 1e30 everything would pass.
#[test]
fn a_floor_that_no_run_has_ends_with_2() {
    for floor in [1e30, 0.1] {
        let mut copy = Copy::new();
        copy.case(NORM)["noise_floors"]["output"]["f32"]["max_abs"] = json!(floor);
        let output = copy.run(&["--filter", NORM]);
        assert_ends(&output, 2, &[NORM, "`output` has a noise floor of"]);
    }
}

#[test]
fn chunks_that_are_not_the_keys_end_with_2() {
    let mut copy = Copy::new();
    copy.case("attention/with_caching")["attention"]["chunks"] = json!([6, 1]);
    let output = copy.run(&["--filter", "with_caching"]);
    assert_ends(&output, 2, &["attention/with_caching", "[6, 1]", "9 keys"]);
}

/// What a prefill computes does not depend on the size of its chunks, with windows or without.
#[test]
fn a_prefill_passes_in_other_chunks() {
    let mut copy = Copy::new();
    for chunk_size in [7, 64, 1000] {
        for checkpoint in ["long-context", "window-yarn"] {
            let case = copy.case(&format!("{checkpoint}/prefill-1-64-255-256-257-chunk-256"));
            case["chunk_size"] = json!(chunk_size);
        }
        let output = copy.run(&["--backend", "ndarray", "--filter", "prefill-1-64"]);
        assert_ends(&output, 0, &["2 passed", " 0 failed"]);
    }
}

/// Ids, descriptions and names of a manifest are shown and not obeyed, and a report that cannot be written is refused.
#[test]
fn a_manifest_gives_a_terminal_no_orders() {
    const EVIL: &str = "evil\u{1b}]0;title\u{7}\u{1b}[2J\u{202e}";
    let mut copy = Copy::new();
    copy.case(NORM)["description"] = EVIL.into();
    copy.manifest["generator"]["packages"]["torch"] = EVIL.into();
    let text_of = |output: &Output, code: i32| {
        let text = text(output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        let obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!text.contains(obeyed), "{text:?}");
        text
    };
    text_of(&copy.run(&["--list"]), 0);
    text_of(&copy.run(&["--filter", NORM]), 0);
    for key in ["kind", "id"] {
        copy.case(NORM)[key] = EVIL.into();
        let text = text_of(&copy.run(&["--list"]), 2);
        assert!(text.contains("\\u{1b}]0;title\\u{7}"), "{text:?}");
        if key == "kind" {
            copy.case(NORM)[key] = "rms_norm".into();
        }
    }
    copy.case(EVIL)["id"] = NORM.into();
    copy.manifest["files"][NORM_FILE] = "0".repeat(64).into();
    let report = copy.path("new/");
    let refused = copy.run(&["--filter", NORM, "--json", report.to_str().unwrap()]);
    assert_ends(&refused, 2, &["--json", "new/", "is a folder"]);
}
