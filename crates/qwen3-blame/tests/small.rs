//! Small mistakes in one layer of runs in half precision, of which nothing but what comes out of embedding, layers, norm
//! and head was observed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qwen3_blame::{ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Precision, Reference, Trace};

/// What is too small to be told from rounding: one edge of a layer whose residual stream has outliers.
const NOT_SEEN: &str = "wild/003-outliers/f16-layer-0-lost_edge.npz";

/// The files below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn a_small_mistake_in_half_precision_is_found_in_its_layer() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let (mut observed, mut missed) = (Vec::new(), Vec::new());
    files(&fixtures.join("small"), &mut observed);
    assert_eq!(observed.len(), 26);
    for file in &observed {
        let place = file.parent().unwrap().strip_prefix(fixtures.join("small")).unwrap();
        let folder = if place.starts_with("wild") {
            fixtures.join(place)
        } else {
            fixtures.join("checkpoints").join(place.iter().next().unwrap())
        };
        let checkpoint = Checkpoint::open(folder).unwrap();
        let reference = fixtures.join(place).join("reference.npz");
        let reference = Reference::open(&reference, checkpoint.config(), true).unwrap();
        let name: Vec<_> = file.file_stem().unwrap().to_str().unwrap().split('-').collect();
        let mut quiet = |_: &str| {};
        let options = ExamineOptions {
            diagnose_for: Duration::ZERO,
            ..ExamineOptions::new(
                Precision::ALL.into_iter().find(|dtype| dtype.name() == name[0]).unwrap(),
                &mut quiet,
            )
        };
        let found = examine(&checkpoint, &reference, &Trace::open(file).unwrap(), options).unwrap();
        let first = found.diagnosis.first_divergence.map(|first| first.tensor);
        let planted = format!("layer_{:0>2}_output", name[2]);
        if first.as_ref() != Some(&planted) {
            let file = file.strip_prefix(fixtures.join("small")).unwrap();
            missed.push((file.to_path_buf(), first));
        }
    }
    assert_eq!(missed, [(PathBuf::from(NOT_SEEN), None)]);
}
