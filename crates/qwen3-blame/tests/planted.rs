//! Activations of Transformers with planted mistakes, as the manifest lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qwen3_blame::{CAUSES, ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Precision, Reference, Trace};
use serde_json::Value;

/// What is found in one entry of the manifest's `observed`.
struct Row {
    good: bool,
    text: String,
    planted: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn diagnose(entry: &Value, checkpoints: &Value) -> Row {
    let text = |key: &str| entry[key].as_str().unwrap();
    let listed = &checkpoints[text("checkpoint")];
    let checkpoint = Checkpoint::open(root().join(listed["path"].as_str().unwrap())).unwrap();
    let checkpoint = match listed["adapter"]["path"].as_str() {
        Some(adapter) => checkpoint.with_adapter(root().join(adapter)).unwrap(),
        None => checkpoint,
    };
    let file = root().join(text("reference"));
    let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
    let observed = Trace::open(&root().join(text("file"))).unwrap();
    let mut quiet = |_: &str| {};
    let options = ExamineOptions::new(Precision::F32, &mut quiet);
    let found = examine(&checkpoint, &reference, &observed, options).unwrap();
    let planted = entry["causes"].as_array().unwrap().iter();
    let mut planted: Vec<String> = planted.map(|id| id.as_str().unwrap().into()).collect();
    let causes: Vec<_> = found.diagnosis.causes.iter().map(|cause| cause.id.clone()).collect();
    let first = serde_json::to_value(&found.diagnosis.first_divergence).unwrap();
    let named = first == entry["first_divergence"] && causes.starts_with(&planted);
    let good = !found.verdicts.pass() && named;
    let mark = if good { "ok " } else { "BAD" };
    let text = format!("{mark} {} {first} {causes:?}", text("id"));
    if planted.len() == 2 {
        planted.push("two faults".into());
    }
    Row { good, text, planted }
}

/// Each mistake is named, at the tensor where it begins, with no other cause before it.
#[test]
fn every_planted_fault_is_named_first() {
    let text = fs::read_to_string(root().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let observed = manifest["observed"].as_array().unwrap();
    let checkpoints = &manifest["checkpoints"];
    let half = observed.chunks(observed.len().div_ceil(2));
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let threads: Vec<_> = half
            .map(|entries| {
                scope.spawn(|| entries.iter().map(|entry| diagnose(entry, checkpoints)).collect::<Vec<_>>())
            })
            .collect();
        let rows = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        rows.collect()
    });
    let wrong = rows.iter().filter(|row| !row.good).count();
    let table: String = rows.iter().map(|row| format!("{}\n", row.text)).collect();
    let named: BTreeSet<String> = rows.iter().flat_map(|row| row.planted.clone()).collect();
    assert_eq!(wrong, 0, "\n{table}");
    let wanted = CAUSES.into_iter().chain(["two faults"]);
    let missing: Vec<_> = wanted.filter(|id| !named.contains(*id)).collect();
    assert!(missing.is_empty(), "no fixture plants {missing:?}");
}
