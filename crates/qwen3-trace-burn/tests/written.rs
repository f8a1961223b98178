//! Files that are written on Burn, judged: of a model that is not this project's, and of ours.

#[allow(dead_code)]
#[path = "../examples/another_model.rs"]
mod another_model;

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use qwen3_blame::{Examination, ExamineOptions, examine};
use qwen3_checkpoint::Checkpoint;
use qwen3_model::{Logits, Session, SessionOptions, Taps};
use qwen3_trace::{Precision, Reference, Trace};
use qwen3_trace_burn::BurnTrace;

use another_model::Rotary;

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

fn judged(name: &str, reference: &Path, observed: &Path) -> Examination {
    let checkpoint = Checkpoint::open(fixtures("checkpoints").join(name)).unwrap();
    let reference = Reference::open(reference, checkpoint.config(), true).unwrap();
    let observed = Trace::open(observed).unwrap();
    let mut quiet = |_: &str| {};
    examine(&checkpoint, &reference, &observed, ExamineOptions::new(Precision::F32, &mut quiet)).unwrap()
}

#[test]
fn another_model_is_right_and_burns_rotary_encoding_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mine.safetensors");
    for name in ["gqa-tied", "mha-untied", "bias-tied"] {
        let reference = fixtures(name).join("prompt1/reference.npz");
        for (rotary, cause) in [(Rotary::Halves, None), (Rotary::Burn, Some("rope_interleaved"))] {
            another_model::run(&fixtures("checkpoints").join(name), &reference, &out, rotary).unwrap();
            let found = judged(name, &reference, &out);
            assert_eq!(found.verdicts.pass(), cause.is_none(), "{name} {rotary:?}");
            assert_eq!(found.diagnosis.causes.first().map(|cause| &cause.id[..]), cause, "{name} {rotary:?}");
        }
    }
}

#[test]
fn our_model_writes_prompt_chunks_and_steps() {
    let (name, device) = ("gqa-tied", Device::flex());
    let reference_file = fixtures(name).join("prompt1/reference.npz");
    let model = qwen3_import::load(fixtures("checkpoints").join(name), &device, DType::F32).unwrap();
    let reference = Reference::open(&reference_file, &model.config, true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ours.safetensors");
    // In one piece, and in chunks of two tokens.
    for chunk_size in [None, Some(2)] {
        let options = SessionOptions { capacity: 64, ..Default::default() };
        let options = match chunk_size {
            Some(chunk_size) => SessionOptions { chunk_size, ..options },
            None => options,
        };
        let mut session = Session::new(&model, options).unwrap();
        let mut trace = BurnTrace::new(&out);
        session.prefill_with(&reference.ids, Logits::All, &mut Taps::new(&mut trace)).unwrap();
        for row in &reference.generated[0][..3] {
            trace.next_step();
            session.step_with(&[*row], &mut Taps::new(&mut trace)).unwrap();
        }
        trace.write().unwrap();
        let found = judged(name, &reference_file, &out);
        assert!(found.verdicts.pass() && found.unread.is_empty(), "{:?}", found.unread);
        assert!(!found.verdicts.steps.is_empty());
    }
}
