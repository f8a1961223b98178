//! The porter's page, `docs/verify.md`, names what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qwen3_blame::CAUSES;
use qwen3_checkpoint::Checkpoint;
use qwen3_config::Site;
use qwen3_trace::{Recorder, Trace};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/verify.md")).unwrap()
}

/// Every cause has an entry of its own, which says something, and there is no other.
#[test]
fn every_cause_has_its_entry() {
    let page = page();
    let entries: Vec<(&str, &str)> =
        page.split("\n### `").skip(1).map(|entry| entry.split_once("`\n\n").expect("a heading")).collect();
    let named: Vec<&str> = entries.iter().map(|(id, _)| *id).collect();
    let all: BTreeSet<&str> = CAUSES.into_iter().collect();
    assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(named.len(), all.len(), "an entry is there twice");
    for (id, entry) in entries {
        let lines = entry.split("\n#").next().unwrap().trim().lines().count();
        assert!((2..=5).contains(&lines), "{id}: {lines} lines");
    }
}

/// The keys in the page's tables are those that are read, all of them.
#[test]
fn every_key_is_named_and_read() {
    let page = page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let cells = rows.flat_map(|cell| cell.split('`').step_by(2));
    let keys: Vec<String> = cells.map(|key| key.replace("NN", "00")).collect();
    let checkpoint = Checkpoint::open(root().join("fixtures/checkpoints/gqa-sharded")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for key in &keys {
        let recorder = Recorder::create(folder.path()).unwrap();
        recorder.write(vec![(key.clone(), vec![1], vec![0.0])]).unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(Trace::open(&path).unwrap().unread(checkpoint.config()).unwrap(), [""; 0]);
            fs::remove_file(path).unwrap();
        }
    }
    let missing = Site::all(1).map(|site| site.to_string()).filter(|site| !keys.contains(site));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}
