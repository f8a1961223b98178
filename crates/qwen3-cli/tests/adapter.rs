//! `--adapter`: a LoRA adapter on the small trained model, and what is refused.
#![cfg(feature = "flex")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use qwen3_checkpoint::{Adapter, AdapterConfig, Factors, Target, TargetModules, read_config};
use serde_json::Value;
use tempfile::TempDir;

const RANK: usize = 2;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny")
}

fn run(words: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.args(words).env("HF_HOME", "/nonexistent/huggingface").env("HF_ENDPOINT", "http://127.0.0.1:9");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that is refused does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// An adapter on every o_proj: `lora_B` is `strength` times numbers that follow no pattern.
fn adapter(strength: f32) -> TempDir {
    let config = read_config(tiny()).unwrap();
    let draw = |count: usize, scale: f32| -> Vec<f32> {
        (0..count).map(|index| scale * ((index as f32 + 0.5) * 12.9898).sin()).collect()
    };
    let factors: BTreeMap<_, _> = (0..config.num_hidden_layers)
        .map(|layer| {
            let [out, input] = Target::OProj.shape(&config, layer).unwrap();
            let factors = Factors { a: draw(RANK * input, 1.0), b: draw(out * RANK, strength), rank: RANK };
            ((layer, Target::OProj), factors)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let config = AdapterConfig::new(RANK, 4.0, TargetModules::of(&[Target::OProj]));
    Adapter::new(config, factors).save(folder.path()).unwrap();
    folder
}

fn generated(adapter: Option<&Path>) -> Value {
    let tiny = tiny();
    let mut words =
        vec!["generate", "--model", tiny.to_str().unwrap(), "--prompt", "1 2 3 4", "--greedy", "--json"];
    if let Some(adapter) = adapter {
        words.extend(["--adapter", adapter.to_str().unwrap()]);
    }
    let output = run(&words, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["generated_ids"].clone()
}

#[test]
fn the_model_speaks_with_the_adapter() {
    let plain = generated(None);
    assert_eq!(generated(Some(adapter(0.0).path())), plain);
    let other = adapter(1.0);
    assert_ne!(generated(Some(other.path())), plain);

    let tiny = tiny();
    let chat = |adapter: Option<&Path>| {
        let mut words = vec!["chat", "--model", tiny.to_str().unwrap(), "--greedy", "--no-thinking"];
        if let Some(adapter) = adapter {
            words.extend(["--adapter", adapter.to_str().unwrap()]);
        }
        let output = run(&words, "What comes after Monday?\n");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = chat(None);
    assert_eq!(chat(Some(adapter(0.0).path())), answer);
    assert_ne!(chat(Some(other.path())), answer);
}

#[test]
fn a_vector_is_that_of_the_model_with_the_adapter() {
    let tiny = tiny();
    let embedded = |adapter: Option<&Path>| {
        let mut words = vec!["embed", "--model", tiny.to_str().unwrap(), "--text", "1 2 3", "--json"];
        if let Some(adapter) = adapter {
            words.extend(["--adapter", adapter.to_str().unwrap()]);
        }
        let output = run(&words, "");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = embedded(None);
    assert_eq!(embedded(Some(adapter(0.0).path())), plain);
    assert_ne!(embedded(Some(adapter(1.0).path())), plain);
}

/// One line that names the file and what is wrong, exit code 2, and nothing said.
#[test]
fn adapters_that_do_not_fit_are_refused() {
    let refused = |adapter: &Path, parts: &[&str]| {
        let commands: [&[&str]; 4] = [
            &["generate", "--prompt", "1 2"],
            &["chat"],
            &["embed", "--text", "1 2"],
            &["rerank", "--query", "1", "--document", "2"],
        ];
        for command in commands {
            let tiny = tiny();
            let model = ["--model", tiny.to_str().unwrap(), "--adapter", adapter.to_str().unwrap()];
            let words = [command, &model].concat();
            let output = run(&words, "Hello\n");
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
            assert!(output.stdout.is_empty());
            for part in parts {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        }
    };
    refused(Path::new("/nonexistent"), &["/nonexistent/adapter_config.json"]);
    let edited = |from: &str, to: &str| {
        let folder = adapter(1.0);
        let file = folder.path().join("adapter_config.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).unwrap();
        folder
    };
    let config = "adapter_config.json";
    refused(edited("\"use_dora\": false", "\"use_dora\": true").path(), &[config, "use_dora", "true"]);
    refused(edited("\"lora_alpha\": 4.0", "\"lora_alpha\": NaN").path(), &[config, "lora_alpha", "NaN"]);
    refused(edited("\"r\": 2", "\"r\": 0").path(), &[config, "`r`", "positive"]);
    let weights = "adapter_model.safetensors";
    refused(edited("\"r\": 2", "\"r\": 3").path(), &[weights, "lora_A", "[2, ", "[3, "]);
    refused(edited("o_proj", "q_proj").path(), &[weights, "o_proj.lora_A", "target_modules"]);
    let cut = adapter(1.0);
    let file = cut.path().join(weights);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    refused(cut.path(), &[weights, "truncated"]);
    // Another model's.
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters/yarn-rslora");
    refused(&other, &[weights, "expected"]);
}
