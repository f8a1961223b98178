//! `qwen3 embed` and `qwen3 rerank` as a user meets them, and what a model without a head is refused for.
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use qwen3_trace::TensorFile;
use serde_json::Value;

const EMBEDDER: &str = "embedding-headless";
const RERANKER: &str = "reranker-tied";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn checkpoint(name: &str) -> String {
    fixtures().join("checkpoints").join(name).to_str().unwrap().into()
}

/// The case `id` of a fixture about text.
fn case(file: &str, id: &str) -> Value {
    let cases = fs::read(fixtures().join("text").join(file)).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    cases.into_iter().find(|case| case["id"] == id).unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    // No cache and no network: a name on the hub cannot be had.
    command.args(words).env("HF_HOME", "/nonexistent/huggingface").env("HF_ENDPOINT", "http://127.0.0.1:9");
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(words: &[&str]) -> Value {
    serde_json::from_str(&done(run(&[words, &["--json"]].concat()))).unwrap()
}

/// One line of error that has all of `parts`, nothing else, and exit code 2.
#[track_caller]
fn refused(words: &[&str], parts: &[&str]) {
    let output = run(words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert!(!error.contains("internal"), "{error}");
    assert_eq!(output.stdout, b"");
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn lengths(ids: &Value) -> Vec<usize> {
    ids.as_array().unwrap().iter().map(|ids| ids.as_array().unwrap().len()).collect()
}

#[test]
fn texts_become_vectors_of_length_one() {
    let model = checkpoint(EMBEDDER);
    for id in ["documents", "queries"] {
        let case = case("embeddings.json", id);
        let mut words = vec!["embed", "--model", &model, "--text"];
        words.extend(strings(&case["texts"]));
        if let Some(task) = case["task"].as_str() {
            words.extend(["--instruct", task]);
        }
        let report = json(&words);
        let mut keys: Vec<_> = report.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["embeddings", "tokens"]);
        assert_eq!(report["tokens"], serde_json::json!(lengths(&case["ids"])));
        let vectors: Vec<_> = report["embeddings"].as_array().unwrap().iter().map(numbers).collect();
        let length = |vector: &Vec<f64>| vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!(vectors.iter().all(|vector| vector.len() == 64 && (length(vector) - 1.0).abs() < 1e-6));

        // The same as text, one vector on each line, and from the lines of a file.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lines.txt");
        fs::write(&file, strings(&case["texts"]).join("\n") + "\n").unwrap();
        let mut words = vec!["embed", "--model", &model, "--file", file.to_str().unwrap()];
        if let Some(task) = case["task"].as_str() {
            words.extend(["--instruct", task]);
        }
        let output = run(&words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("tokens read at") && said.contains("vectors of 64 values"), "{said}");
        let lines = done(output);
        let lines = lines.lines().map(|line| line.split(' ').map(|value| value.parse().unwrap()).collect());
        assert_eq!(lines.collect::<Vec<Vec<f64>>>(), vectors);
        assert_eq!(json(&words), report);
    }
}

#[test]
fn fewer_dimensions_and_fewer_tokens() {
    let model = checkpoint(EMBEDDER);
    let embed = |more: &[&str]| {
        let words = ["embed", "--model", &model, "--text=-1 of 5", "--text", "one two three"];
        [&words[..], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let words = embed(&["--dimensions", "3", "--max-length", "4"]);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let report = json(&words);
    assert!(report["embeddings"].as_array().unwrap().iter().all(|vector| numbers(vector).len() == 3));
    assert_eq!(report["tokens"], serde_json::json!([4, 4]));
    let said = run(&words);
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("note: text 0 is cut to its first 4 tokens"), "{said}");
    for dimensions in ["0", "65", "18446744073709551615"] {
        let words = embed(&["--dimensions", dimensions]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        refused(&words, &["--dimensions", dimensions, "1 to 64", "hidden_size"]);
    }
}

#[test]
fn documents_are_scored_and_sorted() {
    let model = checkpoint(RERANKER);
    let case = case("scores.json", "default");
    let documents = strings(&case["documents"]);
    let query = case["query"].as_str().unwrap();
    let mut words = vec!["rerank", "--model", &model, "--query", query, "--document"];
    words.extend(&documents);
    let report = json(&words);
    let mut keys: Vec<_> = report.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["order", "scores"]);
    let scores = numbers(&report["scores"]);
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    let order: Vec<_> = numbers(&report["order"]).iter().map(|index| *index as usize).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..documents.len()).collect::<Vec<_>>());
    assert!(order.windows(2).all(|pair| scores[pair[0]] > scores[pair[1]]));

    // As text: the best first, with its score and place.
    let lines = done(run(&words));
    for (line, index) in lines.lines().zip(&order) {
        assert_eq!(line, format!("{:.6}  {index}  {}", scores[*index], documents[*index]));
    }
    // From a file, whose equal lines are equally good, in their order.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines.txt");
    fs::write(&file, "same\nsame\nsame").unwrap();
    let words = ["rerank", "--model", &model, "--query", query, "--file", file.to_str().unwrap()];
    assert_eq!(json(&words)["order"], serde_json::json!([0, 1, 2]));
    let other = json(&[&words[..], &["--instruct", "Find a tree"]].concat());
    assert_ne!(other["scores"], json(&words)["scores"]);
}

/// The backends in this build, each with its dtypes. wgpu has f16 where the adapter does, and is asked for it elsewhere.
const BACKENDS: &[(&str, &[&str])] = &[
    #[cfg(feature = "ndarray")]
    ("ndarray", &["f32"]),
    ("flex", &["f32", "f16", "bf16"]),
    #[cfg(feature = "wgpu")]
    ("wgpu", &["f32"]),
    #[cfg(feature = "tch")]
    ("tch", &["f32", "f16", "bf16"]),
];

/// The largest distance from what Transformers gives, which is array `id` of `file`.
fn distance(found: &[f64], file: &str, id: &str) -> f64 {
    let arrays = TensorFile::open(&fixtures().join("text").join(file)).unwrap();
    let expected = arrays.read_any(id).unwrap().wide(id).unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

#[test]
fn every_backend_gives_the_vectors_and_scores_of_transformers() {
    for (backend, dtypes) in BACKENDS {
        for dtype in *dtypes {
            let model = checkpoint(EMBEDDER);
            let queries = case("embeddings.json", "queries");
            let task = queries["task"].as_str().unwrap();
            let mut words = vec!["embed", "--model", &model, "--backend", backend, "--dtype", dtype];
            words.extend(["--instruct", task, "--text"]);
            words.extend(strings(&queries["texts"]));
            let vectors = json(&words);
            let vectors: Vec<_> =
                vectors["embeddings"].as_array().unwrap().iter().flat_map(numbers).collect();
            let (off, limit) =
                (distance(&vectors, "embeddings.npz", "queries"), &queries["tolerance"][dtype]);
            assert!(off <= limit.as_f64().unwrap(), "vectors on {backend} in {dtype}: {off:e} > {limit}");
        }
        let model = checkpoint(RERANKER);
        let scored = case("scores.json", "default");
        let query = scored["query"].as_str().unwrap();
        let mut words =
            vec!["rerank", "--model", &model, "--backend", backend, "--query", query, "--document"];
        words.extend(strings(&scored["documents"]));
        let scores = numbers(&json(&words)["scores"]);
        let (off, limit) = (distance(&scores, "scores.npz", "default"), &scored["tolerance"]["f32"]);
        assert!(off <= limit.as_f64().unwrap(), "scores on {backend}: {off:e} > {limit}");
    }
}

#[test]
fn what_cannot_be_embedded_or_scored_is_refused() {
    let (embedder, reranker, tiny) = (checkpoint(EMBEDDER), checkpoint(RERANKER), checkpoint("trained-tiny"));
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    refused(&["embed", "--model", &embedder, "--file", "no-such-file"], &["no-such-file"]);
    refused(&["embed", "--model", &embedder, "--file", empty], &["empty.txt", "is empty"]);
    refused(&["embed", "--model", &tiny, "--text", ""], &["text 0 is empty"]);
    refused(
        &["rerank", "--model", &tiny, "--query", "a", "--document", "b"],
        &["tokenizer.json", "`no` is the tokens"],
    );
    let words = ["rerank", "--model", &reranker, "--query", "a", "--document", "b", "--max-length", "60"];
    refused(&words, &["there is room for 60"]);
    let long = "word ".repeat(500);
    refused(
        &["rerank", "--model", &reranker, "--query", &long, "--document", "b"],
        &["there is room for 512"],
    );
    for words in [
        &["embed", "--model", &embedder][..],
        &["embed", "--model", &embedder, "--text", "a", "--file", empty],
        &["embed", "--model", &embedder, "--text", "a", "--max-length", "0"],
        &["rerank", "--model", &reranker, "--document", "a"],
        &["rerank", "--model", &reranker, "--query", "a"],
    ] {
        assert_eq!(run(words).status.code(), Some(2), "{words:?}");
    }
}

/// Whatever needs logits names the file and the key of the head; a record of such a model embeds as its folder does.
#[test]
fn a_model_without_a_head_embeds_and_does_nothing_else() {
    let model = checkpoint(EMBEDDER);
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("model.bpk");
    let record = record.to_str().unwrap();
    let output = run(&["import", "--model", &model, "--out", record, "--dtype", "f32"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no head: it embeds texts only"), "{said}");
    done(output);
    for (model, file) in [(model.as_str(), "model.safetensors"), (record, "model.bpk")] {
        let parts = [file, "`lm_head.weight", "is missing", "a model without a head"];
        refused(&["generate", "--model", model, "--prompt", "a"], &parts);
        refused(&["chat", "--model", model], &parts);
        refused(&["rerank", "--model", model, "--query", "a", "--document", "b"], &parts);
        let bench =
            ["bench", "--model", model, "--prompt", "4", "--gen", "2", "--context", "4", "--batch", "1"];
        refused(&bench, &parts);

        let report = json(&["inspect", "--model", model]);
        let values: u64 = report["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tensor| numbers(&tensor["shape"]).iter().product::<f64>() as u64)
            .sum();
        assert_eq!((report["parameters"].as_u64(), &report["has_head"]), (Some(values), &Value::Bool(false)));
        assert!(done(run(&["inspect", "--model", model])).contains("none: it embeds texts"));
    }
    let of = |model| json(&["embed", "--model", model, "--text", "one two", "three"]);
    assert_eq!(of(record), of(&model));
    // A model with a head has one in its record.
    let untied = checkpoint("mha-untied");
    done(run(&["import", "--model", &untied, "--out", record]));
    assert_eq!(json(&["inspect", "--model", record])["has_head"], Value::Bool(true));
    assert_eq!(json(&["inspect", "--model", &untied])["has_head"], Value::Bool(true));
}
