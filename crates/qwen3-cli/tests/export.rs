//! `qwen3 export`: a model leaves as a checkpoint in Hugging Face's layout.
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn tiny() -> PathBuf {
    fixtures().join("checkpoints/trained-tiny")
}

fn run(command: &str, model: &Path, words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    program.arg(command).arg("--model").arg(model).args(words).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn spoken(model: &Path, more: &[&str]) -> Value {
    let words = ["--prompt", "1 2 3 4", "--greedy", "--max-new-tokens", "12", "--json"];
    let report: Value =
        serde_json::from_str(&done(run("generate", model, &[&words, more].concat()))).unwrap();
    report["generated_ids"].clone()
}

/// Checkpoint, record, checkpoint: it says the same, with the tokenizer that came with it, and the files are the
/// first ones' equals.
#[test]
fn a_record_becomes_a_checkpoint_again() {
    let folder = tempfile::tempdir().unwrap();
    let (record, out) = (folder.path().join("model.bpk"), folder.path().join("back"));
    done(run("import", &tiny(), &["--out", record.to_str().unwrap()]));
    let output = run("export", &record, &["--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("parameters in") && said.contains("with its tokenizer"), "{said}");
    assert_eq!(done(output), "");
    assert_eq!(spoken(&out, &[]), spoken(&tiny(), &[]));
    for name in ["tokenizer.json", "generation_config.json"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(tiny().join(name)).unwrap(), "{name}");
    }
    let of =
        |model: &Path| -> Value { serde_json::from_str(&done(run("inspect", model, &["--json"]))).unwrap() };
    let (before, after) = (of(&tiny()), of(&out));
    assert_eq!((&before["dtypes"], &before["parameters"]), (&after["dtypes"], &after["parameters"]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// What an adapter does is in the weights.
#[test]
fn an_adapter_is_merged() {
    let (model, adapter) = (fixtures().join("checkpoints/yarn"), fixtures().join("adapters/yarn-lora"));
    let folder = tempfile::tempdir().unwrap();
    let (plain, merged) = (folder.path().join("plain"), folder.path().join("merged"));
    done(run("export", &model, &["--out", plain.to_str().unwrap()]));
    let words = ["--out", merged.to_str().unwrap(), "--adapter", adapter.to_str().unwrap(), "--dtype", "f32"];
    done(run("export", &model, &words));
    let weights = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert_ne!(weights(&plain), weights(&merged));
    assert_eq!(weights(&plain).len(), weights(&merged).len());
}

/// One line, exit code 2, and what was there is there.
#[test]
fn what_is_in_the_way_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    for (out, expected) in [(folder.path(), "is not empty"), (&file, "is a file")] {
        let output = run("export", &tiny(), &["--out", out.to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        assert!(error.contains(expected) && error.contains(out.to_str().unwrap()), "{error}");
    }
    // No model, and nothing made for it.
    let absent =
        run("export", Path::new("/nonexistent/model"), &["--out", folder.path().join("x").to_str().unwrap()]);
    assert_eq!(absent.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
