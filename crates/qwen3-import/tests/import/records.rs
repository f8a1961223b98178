//! Saving, loading, and what a failing save leaves behind.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::{DType, Device, Int, Tensor};
use burn_store::burn_pack;
use qwen3_import::{Loader, Progress, RecordFile, load_record, save_record, save_record_with_texts};
use qwen3_model::Qwen3;
use safetensors::Dtype;

use crate::common::*;
use crate::compare::*;
use crate::hostile_records::{entry, rewrite};

const RECORD: &str = "model.bpk";
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

fn save(model: &Qwen3, folder: &Folder, dtype: DType) {
    save_record(model, folder.path(RECORD), dtype).unwrap();
}

fn again(folder: &Folder, dtype: DType) -> Qwen3 {
    load_record(folder.path(RECORD), &Device::flex(), dtype).unwrap()
}

/// The names in the folder.
fn listing(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.dir()).unwrap();
    let mut names =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn the_same_dtype_gives_the_same_bits_and_config() {
    for tied in [false, true] {
        let folder = Folder::with(tied, &tensors(tied));
        for dtype in DTYPES {
            let model = folder.load(dtype).unwrap();
            save(&model, &folder, dtype);
            let again = again(&folder, dtype);
            assert_same(&again, &model);
            assert_eq!(again.config, model.config);
            assert_eq!(again.lm_head.is_none(), tied);
        }
        assert_eq!(listing(&folder), ["config.json", RECORD, WEIGHTS]);
    }
}

#[test]
fn narrowing_is_the_cast_that_loading_does() {
    let folder = Folder::plain();
    let wide = folder.load(DType::F32).unwrap();
    for (dtype, narrow) in [(DType::F16, Dtype::F16), (DType::BF16, Dtype::BF16)] {
        save(&wide, &folder, dtype);
        let cast = folder.load(dtype).unwrap();
        assert_same(&again(&folder, dtype), &cast);
        let widened = again(&folder, DType::F32);
        let rounded = tensors(false).into_iter().map(|(key, stored)| (key, stored.cast(narrow)));
        assert_holds(&widened, &rounded.collect(), (DType::F32, Dtype::F32));
        // A wide record narrows to the same, and a narrow model does not change when it is saved wide.
        save(&wide, &folder, DType::F32);
        assert_same(&again(&folder, dtype), &cast);
        save(&cast, &folder, DType::F32);
        assert_same(&again(&folder, dtype), &cast);
    }
}

#[test]
fn a_record_takes_the_bytes_of_its_dtype() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    for dtype in DTYPES {
        save(&model, &folder, dtype);
        let reader = burn_pack::Reader::from_file_exact(folder.path(RECORD)).unwrap();
        let stored = reader.into_tensors().unwrap();
        assert!(stored.iter().all(|tensor| tensor.dtype == dtype), "{dtype:?}");
    }
}

#[test]
fn an_existing_record_is_replaced() {
    let folder = Folder::plain();
    let mut model = folder.load(DType::F32).unwrap();
    save(&model, &folder, DType::F32);
    model.model.layers.swap(0, 1);
    save(&model, &folder, DType::F32);
    assert_same(&again(&folder, DType::F32), &model);
    assert_eq!(listing(&folder), ["config.json", RECORD, WEIGHTS]);
}

#[test]
fn a_failing_save_leaves_what_was_there() {
    let mut large = tensors(false);
    large.get_mut(NORM).unwrap().set(5, 70_000.0);
    let folder = Folder::with(false, &large);
    let model = folder.load(DType::F32).unwrap();
    save(&model, &folder, DType::F32);
    let before = fs::read(folder.path(RECORD)).unwrap();

    // The norm is written after most of the others.
    let failed = save_record(&model, folder.path(RECORD), DType::F16);
    let detail = format!("'{NORM}': 70000 at flat index 5 is not finite as F16");
    folder.blames(failed, "Malformed", RECORD, &detail);
    let failed = save_record(&model, folder.path(RECORD), DType::F64);
    folder.blames(failed, "DType", "", "F64");
    assert_eq!(fs::read(folder.path(RECORD)).unwrap(), before);
    assert_eq!(listing(&folder), ["config.json", RECORD, WEIGHTS]);

    let overflow = load_record(folder.path(RECORD), &Device::flex(), DType::F16);
    folder.blames(overflow, "NonFinite", RECORD, &format!("{NORM}[5] = 70000 as F16"));
}

/// Directories that cannot be written, in ways that hold for root as well.
#[test]
fn a_save_that_cannot_be_written_leaves_nothing() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    for name in ["none/model.bpk", "config.json/model.bpk"] {
        let failed = save_record(&model, folder.path(name), DType::F32);
        folder.blames(failed, "Io", name, "cannot create");
    }
    fs::create_dir(folder.path(RECORD)).unwrap();
    let failed = save_record(&model, folder.path(RECORD), DType::F32);
    folder.blames(failed, "Io", RECORD, "");
    assert!(folder.path(RECORD).is_dir());
    assert_eq!(listing(&folder), ["config.json", RECORD, WEIGHTS]);
}

#[test]
fn the_name_is_used_as_it_is() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    save_record(&model, folder.path("record"), DType::F32).unwrap();
    load_record(folder.path("record"), &Device::flex(), DType::F32).unwrap();
    assert_eq!(listing(&folder), ["config.json", WEIGHTS, "record"]);
}

/// Square projections can be transposed without a shape to show it; the numbers show it.
#[test]
fn transposed_keys_and_values_do_not_go_unseen() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    let logits = |model: &Qwen3| {
        let ids = Tensor::<2, Int>::from_ints([[3, 1, 4, 1, 5, 9, 2, 6]], &Device::flex());
        model.forward(ids).into_data().iter::<f32>().collect::<Vec<_>>()
    };
    let expected = logits(&model);
    save(&model, &folder, DType::F32);
    assert_eq!(logits(&again(&folder, DType::F32)), expected);

    for name in ["k_proj", "v_proj"] {
        let key = format!("model.layers.0.self_attn.{name}.weight");
        save(&model, &folder, DType::F32);
        rewrite(&folder.path(RECORD), |tensors, _| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == key).unwrap();
            let words = values(Dtype::F32, &tensor.to_bytes().unwrap());
            let transposed = (0..64).map(|index| words[index % 8 * 8 + index / 8]);
            let stored = Stored::new(Dtype::F32, &[8, 8], &transposed.collect::<Vec<_>>());
            *tensor = entry(&key, DType::F32, stored);
        });
        let tampered = again(&folder, DType::F32);
        let (found, wanted) = (parameters(&tampered), parameters(&model));
        let differing = wanted.keys().filter(|key| found[*key] != wanted[*key]);
        assert!(differing.eq([&key]));
        let error = logits(&tampered).iter().zip(&expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
        assert!(error > 1e-2, "{name}: {error}");
    }
}

#[cfg(feature = "ndarray")]
#[test]
#[allow(deprecated)] // Burn 0.22 is the last release with ndarray.
fn a_record_moves_between_backends() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    save(&model, &folder, DType::F32);
    let moved = load_record(folder.path(RECORD), &Device::ndarray(), DType::F32).unwrap();
    assert_same(&moved, &model);
}

/// The texts come back byte by byte, the model is the one it was, and headers are read without weights.
#[test]
fn a_record_carries_other_files() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    let texts = BTreeMap::from([
        ("tokenizer.json".to_string(), "{\"é\": \"\\u0000\n\"}".to_string()),
        ("empty".to_string(), String::new()),
    ]);
    save_record_with_texts(&model, folder.path(RECORD), DType::BF16, &texts).unwrap();
    let record = RecordFile::open(folder.path(RECORD)).unwrap();
    for (name, text) in &texts {
        assert_eq!(record.text(name), Some(text.as_str()));
    }
    assert_eq!(record.text("config.json"), None);
    assert_eq!(*record.config(), model.config);
    let (dtype, shape) = &record.tensors()["model.norm.weight"];
    assert_eq!((*dtype, shape.len()), (DType::BF16, 1));

    let mut told = Vec::new();
    let mut tell = |progress: Progress| told.push((progress.done, progress.total));
    let file = folder.path(RECORD);
    let again = Loader::new(&Device::flex(), DType::BF16).progress(&mut tell).record(file).unwrap();
    assert_same(&again, &folder.load(DType::BF16).unwrap());
    let total = model.config.num_parameters();
    assert_eq!(told.last(), Some(&(total, total)));
    assert!(told.is_sorted());

    save(&model, &folder, DType::F32);
    let plain = RecordFile::open(folder.path(RECORD)).unwrap();
    assert_eq!(plain.text("tokenizer.json"), None);
}
