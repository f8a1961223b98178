//! Checkpoints that are less tame than the fixtures, as `oracle.py wild` makes them: honest runs of Transformers are
//! not accused, with the reference's noise floors and without, and a small mistake is found where it is.

mod npz;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qwen3_blame::{Examination, ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_trace::{Mode, Precision, Reference, Trace, TraceError};

use npz::edited;

fn folders() -> Vec<PathBuf> {
    let wild = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wild");
    let entries = fs::read_dir(wild).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn look(
    folder: &Path,
    reference: &Path,
    observed: &Path,
    dtype: Precision,
) -> Result<Examination, TraceError> {
    look_for(folder, reference, observed, dtype, Duration::ZERO)
}

/// The same, with time for causes.
fn look_for(
    folder: &Path,
    reference: &Path,
    observed: &Path,
    dtype: Precision,
    time: Duration,
) -> Result<Examination, TraceError> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let reference = Reference::open(reference, checkpoint.config(), true).unwrap();
    let observed = Trace::open(observed).unwrap();
    let mut quiet = |_: &str| {};
    let options = ExamineOptions { diagnose_for: time, ..ExamineOptions::new(dtype, &mut quiet) };
    examine(&checkpoint, &reference, &observed, options)
}

fn files<'a>(folder: &Path, prefix: &'a str) -> impl Iterator<Item = (PathBuf, String)> + 'a {
    let paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.into_iter().filter_map(move |path| {
        let rest = path.file_stem()?.to_str()?.strip_prefix(prefix)?.to_string();
        Some((path, rest))
    })
}

#[test]
fn honest_runs_are_not_accused() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut runs, mut accused) = (0, Vec::new());
    for folder in folders() {
        let stored = folder.join("reference.npz");
        let bare = edited(&stored, temporary.path(), |name, _| !name.starts_with("noise_floor"));
        for reference in [stored, bare] {
            for (observed, rest) in files(&folder, "honest-") {
                let dtype = rest.split('-').next().unwrap();
                let dtype = Precision::ALL.into_iter().find(|known| known.name() == dtype).unwrap();
                let found = look(&folder, &reference, &observed, dtype).unwrap();
                runs += 1;
                if !found.verdicts.pass() {
                    let first = found.diagnosis.first_divergence.map(|first| first.tensor);
                    accused.push(format!("{} by {}: {first:?}", observed.display(), reference.display()));
                }
            }
        }
    }
    assert!(runs >= 80, "{runs} runs");
    assert!(accused.is_empty(), "{accused:#?}");
}

/// Ids of what is no mistake.
const OF_PRECISION: [&str; 3] = ["dtype_rounding", "arithmetic_bf16", "arithmetic_f16"];

/// An honest run in half precision that is taken for one in f32: a number that fits its noise is no cause.
#[test]
fn half_precision_is_no_mistake() {
    let mut runs = 0;
    for folder in folders() {
        for dtype in ["honest-bf16-", "honest-f16-"] {
            for (observed, _) in files(&folder, dtype).filter(|(_, rest)| rest != "permuted") {
                let seconds = Duration::from_secs(10);
                let reference = folder.join("reference.npz");
                let found = look_for(&folder, &reference, &observed, Precision::F32, seconds).unwrap();
                let ids: Vec<_> = found.diagnosis.causes.iter().map(|cause| cause.id.as_str()).collect();
                let named = ids.iter().all(|id| OF_PRECISION.contains(id));
                assert!(!ids.is_empty() && named, "{}: {ids:?}", observed.display());
                runs += 1;
            }
        }
    }
    assert!(runs >= 24, "{runs} runs");
}

#[test]
fn a_small_mistake_is_found_in_its_layer() {
    for folder in folders() {
        for (observed, layer) in files(&folder, "planted-layer-") {
            let found = look(&folder, &folder.join("reference.npz"), &observed, Precision::F32).unwrap();
            let first = found.diagnosis.first_divergence.expect("it shows");
            assert_eq!(first.tensor, format!("layer_{:0>2}_output", layer), "{}", observed.display());
            assert!(found.verdicts.failing(Mode::Accumulated).next().is_some());
        }
    }
}

/// A floor of 1e30 would let everything pass.
#[test]
fn a_floor_that_no_run_has_is_refused() {
    let (folder, temporary) = (folders().remove(0), tempfile::tempdir().unwrap());
    let whole = [("noise_floor", "layer_01_output", 1e30_f64), ("noise_floor", "logits", 1.0)];
    let isolated =
        [("noise_floor_isolated", "layer_01_output", 1e30), ("noise_floor_isolated", "logits", 1.0)];
    for (kind, tensor, floor) in whole.into_iter().chain(isolated) {
        let key = format!("{kind}.f32.{tensor}");
        let reference = edited(&folder.join("reference.npz"), temporary.path(), |name, bytes| {
            if *name == key {
                let data = bytes.len() - 16;
                bytes.truncate(data);
                bytes.extend([floor, floor].map(f64::to_le_bytes).concat());
            }
            true
        });
        let found = look(&folder, &reference, &folder.join("honest-f32-eager.npz"), Precision::F32);
        let error = found.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&key) && error.contains("edited.npz"), "{error}");
    }
}
