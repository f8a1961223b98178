//! GGUF files: the same models as the folders that they were made of.

#[path = "../../../qwen3-checkpoint/tests/sample/mod.rs"]
mod sample;

use std::fs;

use burn::tensor::{DType, Device};
use qwen3_import::{
    Checkpoint, CheckpointError, Loader, RecordFile, load, load_record, save_record_with_texts,
};
use qwen3_model::{Qwen3, Session, SessionOptions};

use self::sample::{Stored, gguf};

fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn logits(model: &Qwen3) -> Vec<f32> {
    let mut session = Session::new(model, SessionOptions { capacity: 16, ..Default::default() }).unwrap();
    let logits = session.prefill(&[[3_u32, 1, 4, 1, 5]]).unwrap();
    logits.into_data().iter::<f32>().collect()
}

#[test]
fn a_gguf_file_is_the_model_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let (file, record) = (folder.path().join("model.gguf"), folder.path().join("model.bpk"));
    for name in ["gqa-tied", "mha-untied", "bias-tied"] {
        let original = Checkpoint::open(fixture(name)).unwrap();
        let expected = logits(&load(fixture(name), &Device::flex(), DType::F32).unwrap());
        fs::write(&file, gguf(&original, Stored::F32, |_, _| {})).unwrap();
        let model = load(&file, &Device::flex(), DType::F32).unwrap();
        assert!(logits(&model) == expected, "{name}");
        // By way of a record, too.
        let texts = Checkpoint::open(&file).unwrap().texts().unwrap();
        save_record_with_texts(&model, &record, DType::F32, &texts).unwrap();
        assert!(RecordFile::open(&record).unwrap().has_head());
        assert!(logits(&load_record(&record, &Device::flex(), DType::F32).unwrap()) == expected, "{name}");
        // Eight bits are near, and four are not far; bf16 is what some are stored in.
        for (stored, most) in
            [(Stored::F16, 1e-2), (Stored::BF16, 0.03), (Stored::Q8_0, 0.05), (Stored::Q4_0, 0.6)]
        {
            fs::write(&file, gguf(&original, stored, |_, _| {})).unwrap();
            let found = logits(&Loader::new(&Device::flex(), DType::F32).checkpoint(&file).unwrap());
            let square =
                |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
            let error = square(&mut found.iter().zip(&expected).map(|(f, e)| f - e))
                / square(&mut expected.iter().copied());
            assert!(
                error.sqrt() < most && (error > 0.0 || [Stored::F16, Stored::BF16].contains(&stored)),
                "{name} {stored:?}: {error}"
            );
        }
    }
}

#[test]
fn a_weight_that_is_not_finite_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let original = Checkpoint::open(fixture("gqa-tied")).unwrap();
    let spoiled = |key: &str, values: &mut Vec<f32>| {
        if key == "model.layers.1.mlp.up_proj.weight" {
            values[70] = f32::NAN;
        }
    };
    fs::write(&file, gguf(&original, Stored::F32, spoiled)).unwrap();
    let error = load(&file, &Device::flex(), DType::F32).unwrap_err();
    let qwen3_import::ImportError::File(CheckpointError::NonFinite { key, index, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!((&key[..], index), ("model.layers.1.mlp.up_proj.weight", 70));
}
