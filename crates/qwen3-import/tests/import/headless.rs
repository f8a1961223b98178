//! Models without a head: loaded where hidden states are wanted, refused where logits are.

use burn::tensor::{DType, Device, Int, Tensor};
use qwen3_import::{Checkpoint, Loader, RecordFile, load_record, save_record};
use qwen3_model::{Extent, Qwen3, Session, SessionError, SessionOptions};

use crate::common::*;

const RECORD: &str = "model.bpk";

/// The untied checkpoint as `Qwen3Model` is saved: no head, and keys without the prefix where `bare`.
fn headless(bare: bool) -> Tensors {
    let mut tensors = tensors(false);
    tensors.remove(HEAD);
    let key = |key: String| if bare { key.replacen("model.", "", 1) } else { key };
    tensors.into_iter().map(|(name, stored)| (key(name), stored)).collect()
}

/// What loads a model without its head.
fn loader(device: &Device) -> Loader<'_> {
    Loader::new(device, DType::F32).extent(Extent::Encoder)
}

fn encoder(folder: &Folder) -> Qwen3 {
    loader(&Device::flex()).checkpoint(folder.dir()).unwrap()
}

/// What the last norm gives for a few tokens.
fn hidden(model: &Qwen3) -> Vec<f32> {
    let ids = Tensor::<2, Int>::from_ints([[1, 5, 3]], &Device::flex());
    model.encode(ids).into_data().try_into_vec().unwrap()
}

#[test]
fn a_headless_checkpoint_reads_texts_and_has_no_logits() {
    let whole = hidden(&Folder::plain().load(DType::F32).unwrap());
    for bare in [false, true] {
        let mut config = config(false);
        config["architectures"] = serde_json::json!(["Qwen3Model"]);
        let folder = Folder::new(&config).write(WEIGHTS, safetensors(&headless(bare)));
        folder.refused("NoHead", WEIGHTS, HEAD);
        assert!(!Checkpoint::open(folder.dir()).unwrap().has_head());
        let model = encoder(&folder);
        assert!(model.head().is_none());
        assert_eq!(hidden(&model), whole);
        let mut session = Session::new(&model, SessionOptions { capacity: 8, ..Default::default() }).unwrap();
        assert_eq!(session.prefill(&[[1, 5, 3]]).unwrap_err(), SessionError::NoHead);
        let mut begun = session.begin(&[[1, 5, 3]]).unwrap();
        assert_eq!(session.read(&mut begun).unwrap_err(), SessionError::NoHead);
        assert_eq!(session.used(), 0);
        let last = session.encode(&[[1, 5, 3]], Default::default()).unwrap();
        let last: Vec<f32> = last.into_data().try_into_vec().unwrap();
        for (found, expected) in last.iter().zip(&whole[16..]) {
            assert!((found - expected).abs() < 1e-5, "{last:?}");
        }
    }
}

/// An untied head is left where it is, whatever it looks like; a tied one is the embedding.
#[test]
fn a_head_that_is_there_is_not_read() {
    let folder = Folder::plain();
    let model = encoder(&folder);
    assert!(Checkpoint::open(folder.dir()).unwrap().has_head());
    assert!(model.head().is_none());
    assert_eq!(hidden(&model), hidden(&folder.load(DType::F32).unwrap()));
    let mut broken = tensors(false);
    broken.get_mut(HEAD).unwrap().set(0, f32::NAN);
    encoder(&Folder::with(false, &broken));
    assert!(encoder(&Folder::with(true, &tensors(true))).head().is_some());

    // What is no head is still too much, and what is missing is missing.
    let mut more = headless(true);
    more.insert("score.weight".into(), broken[HEAD].clone());
    let folder = Folder::with(false, &more);
    let found = loader(&Device::flex()).checkpoint(folder.dir());
    folder.blames(found, "UnusedKey", WEIGHTS, "score.weight");
    let mut less = headless(true);
    less.remove("norm.weight");
    let folder = Folder::with(false, &less);
    let found = loader(&Device::flex()).checkpoint(folder.dir());
    folder.blames(found, "MissingKey", WEIGHTS, "norm.weight");
}

#[test]
fn a_record_may_be_without_a_head() {
    let folder = Folder::with(false, &headless(true));
    let model = encoder(&folder);
    let file = folder.path(RECORD);
    save_record(&model, &file, DType::F32).unwrap();
    assert!(!RecordFile::open(&file).unwrap().has_head());
    let found = load_record(&file, &Device::flex(), DType::F32);
    folder.blames(found, "NoHead", RECORD, HEAD);
    let again = loader(&Device::flex()).record(&file).unwrap();
    assert_eq!(hidden(&again), hidden(&model));

    // And of one with a head only the rest is read.
    let whole = Folder::plain();
    save_record(&whole.load(DType::F32).unwrap(), &file, DType::F32).unwrap();
    assert!(RecordFile::open(&file).unwrap().has_head());
    let again = loader(&Device::flex()).record(&file).unwrap();
    assert!(again.head().is_none());
    assert_eq!(hidden(&again), hidden(&model));
}

/// The progress of a load ends where there is nothing left to read.
#[test]
fn progress_counts_no_head() {
    let folder = Folder::plain();
    let (mut done, mut total) = (0, 1);
    let mut tell = |progress: qwen3_import::Progress| (done, total) = (progress.done, progress.total);
    loader(&Device::flex()).progress(&mut tell).checkpoint(folder.dir()).unwrap();
    assert_eq!(done, total);
}
