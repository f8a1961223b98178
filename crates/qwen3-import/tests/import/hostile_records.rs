//! Records that are cut, foreign, or lie about themselves: errors, never panics.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{Bytes, DType, Device};
use burn_store::burn_pack;
use qwen3_import::{ImportError, load_record, save_record};
use qwen3_model::Qwen3;
use safetensors::Dtype;

use crate::common::*;
use crate::compare::record_key;

pub const RECORD: &str = "model.bpk";
pub const CONFIG: &str = "config.json";

type Metadata = BTreeMap<String, String>;

/// A tensor of a record.
pub fn entry(key: &str, dtype: DType, stored: Stored) -> burn_pack::Tensor {
    let bytes = Bytes::from_bytes_vec(stored.bytes);
    burn_pack::Tensor::new(key.into(), dtype, stored.shape, None, bytes)
}

/// Writes a record again, with other tensors or metadata, and without checksums, as other programs do.
pub fn rewrite(file: &Path, change: impl FnOnce(&mut Vec<burn_pack::Tensor>, &mut Metadata)) {
    let reader = burn_pack::Reader::from_file_exact(file).unwrap();
    let mut metadata = reader.metadata().clone();
    assert!(metadata.remove("crc32").is_some());
    let mut tensors = reader.into_tensors().unwrap();
    change(&mut tensors, &mut metadata);
    let writer = burn_pack::Writer::new(tensors);
    let writer = metadata.iter().fold(writer, |writer, (key, value)| writer.with_metadata(key, value));
    writer.write_to_file(file).unwrap();
}

pub fn load(folder: &Folder) -> Result<Qwen3, ImportError> {
    load_record(folder.path(RECORD), &Device::flex(), DType::F32)
}

/// A folder with a good record.
pub fn good() -> Folder {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    save_record(&model, folder.path(RECORD), DType::F32).unwrap();
    folder
}

#[track_caller]
fn changed(kind: &str, detail: &str, change: impl FnOnce(&mut Vec<burn_pack::Tensor>, &mut Metadata)) {
    let folder = good();
    rewrite(&folder.path(RECORD), change);
    folder.blames(load(&folder), kind, RECORD, detail);
}

#[test]
fn a_record_cut_anywhere() {
    let folder = good();
    let whole = fs::read(folder.path(RECORD)).unwrap();
    let near_the_ends = (0..40).chain(whole.len() - 40..whole.len());
    let folder = near_the_ends.chain((40..whole.len() - 40).step_by(61)).fold(folder, |folder, length| {
        let folder = folder.write(RECORD, &whole[..length]);
        folder.blames(load(&folder), "Malformed", RECORD, "");
        folder
    });
    let folder = folder.write(RECORD, &whole);
    load(&folder).unwrap();
}

/// Whatever byte is changed, loading ends in a model or an error about this file.
#[test]
fn a_record_with_a_changed_byte() {
    let mut folder = good();
    let whole = fs::read(folder.path(RECORD)).unwrap();
    let mut errors = 0;
    for index in (0..64).chain((64..whole.len()).step_by(29)) {
        let mut bytes = whole.clone();
        bytes[index] ^= 0xff;
        folder = folder.write(RECORD, &bytes);
        if let Err(error) = load(&folder) {
            assert!(error.to_string().contains(RECORD), "{error}");
            errors += 1;
        }
    }
    assert!(errors > 50, "{errors}");
}

#[test]
fn a_file_that_is_not_a_record() {
    let folder = Folder::plain();
    folder.blames(load(&folder), "Io", RECORD, "No such file");
    let weights = fs::read(folder.path(WEIGHTS)).unwrap();
    let mut folder = folder;
    for bytes in [b"".to_vec(), vec![0; 64], vec![0xff; 4096], weights, b"NRUB".to_vec()] {
        folder = folder.write(RECORD, bytes);
        folder.blames(load(&folder), "Malformed", RECORD, "");
    }
    fs::remove_file(folder.path(RECORD)).unwrap();
    fs::create_dir(folder.path(RECORD)).unwrap();
    folder.blames(load(&folder), "Malformed", RECORD, "regular file");
}

#[test]
fn a_foreign_record() {
    changed("Malformed", "no config.json", |_, metadata| drop(metadata.remove(CONFIG)));
    for (text, detail) in [("", "not a JSON object"), ("{}", "`model_type`")] {
        changed("Config", detail, |_, metadata| drop(metadata.insert(CONFIG.into(), text.into())));
    }
    let name = &record_key(EMBEDDING);
    changed("NoHead", HEAD, |tensors, _| tensors.clear());
    changed("MissingKey", name, |tensors, _| tensors.retain(|tensor| tensor.name.starts_with(HEAD)));
    changed("MissingKey", NORM, |tensors, _| tensors.retain(|tensor| tensor.name != NORM));
    let extra = || Stored::new(Dtype::F32, &[2], &[1.0, 2.0]);
    changed("UnusedKey", "extra", |tensors, _| tensors.push(entry("extra", DType::F32, extra())));
    // A second block of a matrix that has one.
    let second = &format!("{HEAD}.1");
    changed("UnusedKey", second, |tensors, _| tensors.push(entry(second, DType::F32, extra())));
    // An unsplit matrix, as other programs would store it.
    changed("MissingKey", name, |tensors, _| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == *name);
        tensor.unwrap().name = EMBEDDING.into();
    });
    // The config of another size, with the tensors of this one.
    let other = config(false).to_string().replace(r#""vocab_size":11"#, r#""vocab_size":16777216"#);
    let detail = format!("{name} [11, 8] for [4194304, 8]");
    changed("Shape", &detail, |_, metadata| drop(metadata.insert(CONFIG.into(), other)));
}

#[test]
fn a_tensor_of_a_record_that_cannot_be_used() {
    let replaced = |kind, detail: &str, key: &str, dtype, stored: Stored| {
        changed(kind, detail, |tensors, _| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == key);
            *tensor.unwrap() = entry(key, dtype, stored);
        });
    };
    let shaped = |shape: &[usize]| Stored::new(Dtype::F32, shape, &vec![0.5; shape.iter().product()]);
    for shape in [&[8, 16][..], &[128], &[16, 8, 1], &[0]] {
        let detail = format!("{Q_PROJ} {shape:?} for [16, 8]");
        replaced("Shape", &detail, Q_PROJ, DType::F32, shaped(shape));
    }
    let wide = Stored::new(Dtype::F64, &[8], &[0.5; 8]);
    replaced("TensorDType", &format!("{NORM} F64"), NORM, DType::F64, wide.clone());
    replaced("TensorDType", &format!("{NORM} I64"), NORM, DType::I64, wide);
    replaced("TensorDType", &format!("{NORM} I32"), NORM, DType::I32, shaped(&[8]));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut stored = shaped(&[8, 8]);
        stored.set(9, bad);
        let detail = format!("{K_PROJ}[9] = {bad} as F32");
        replaced("NonFinite", &detail, K_PROJ, DType::F32, stored);
    }
}
