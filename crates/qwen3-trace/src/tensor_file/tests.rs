use std::fs;
use std::path::PathBuf;

use ::safetensors::Dtype;
use ::safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

use super::*;
use crate::TraceError as E;
use qwen3_checkpoint::CheckpointError::{Io, Malformed};
use qwen3_config::Precision;

/// Writes a file in a folder of its own.
pub(super) fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

pub(super) fn open(name: &str, bytes: &[u8]) -> Result<TensorFile, E> {
    let (_folder, path) = written(name, bytes);
    TensorFile::open(&path)
}

/// A file of f32 tensors.
pub(super) fn floats(list: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = list
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = list.iter().zip(&bytes);
    let views: Vec<_> =
        views.map(|((name, shape, _), bytes)| (*name, Dtype::F32, *shape, &bytes[..])).collect();
    tensors(&views)
}

fn tensors(list: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = list
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

fn header(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), data].concat()
}

pub(super) fn le<const N: usize>(values: &[[u8; N]]) -> Vec<u8> {
    values.concat()
}

#[test]
fn safetensors_of_every_dtype() {
    let f16 = le(&[[0x00, 0x3c], [0x01, 0x00]]);
    let bf16 = le(&[[0x80, 0x3f], [0x20, 0xc0]]);
    let f32 = le(&[1.5_f32, -0.1].map(f32::to_le_bytes));
    let f64 = le(&[0.1_f64, -1e-50].map(f64::to_le_bytes));
    let i32 = le(&[7_i32, -7].map(i32::to_le_bytes));
    let i64 = le(&[i64::MAX, i64::MIN].map(i64::to_le_bytes));
    let bytes = tensors(&[
        ("f16", Dtype::F16, &[2], &f16),
        ("bf16", Dtype::BF16, &[1, 2], &bf16),
        ("f32", Dtype::F32, &[2, 1], &f32),
        ("f64", Dtype::F64, &[2], &f64),
        ("bool", Dtype::BOOL, &[3], &[0, 1, 255]),
        ("u8", Dtype::U8, &[1], &[255]),
        ("i8", Dtype::I8, &[1], &[255]),
        ("i16", Dtype::I16, &[1], &[0xfe, 0xff]),
        ("i32", Dtype::I32, &[2], &i32),
        ("i64", Dtype::I64, &[2], &i64),
        ("scalar", Dtype::F32, &[], &f32[..4]),
    ]);
    let file = open("a.safetensors", &bytes).unwrap();
    assert!(file.has("f32") && !file.has("f8"));
    let read = |name: &str| file.read(name).unwrap();
    assert_eq!(read("f16").values, Values::Float(vec![1.0, 2_f32.powi(-24)]));
    assert_eq!(read("bf16"), Array { shape: vec![1, 2], values: Values::Float(vec![1.0, -2.5]) });
    assert_eq!(read("f32"), Array { shape: vec![2, 1], values: Values::Float(vec![1.5, -0.1]) });
    assert_eq!(read("f64").values, Values::Float(vec![0.1, -0.0]));
    assert_eq!(read("bool").values, Values::Int(vec![0, 1, 1]));
    assert_eq!(read("u8").values, Values::Int(vec![255]));
    assert_eq!(read("i8").values, Values::Int(vec![-1]));
    assert_eq!(read("i16").values, Values::Int(vec![-2]));
    assert_eq!(read("i32").values, Values::Int(vec![7, -7]));
    assert_eq!(read("i64").values, Values::Int(vec![i64::MAX, i64::MIN]));
    assert_eq!(read("scalar"), Array { shape: vec![], values: Values::Float(vec![1.5]) });
    assert!(open("a.safetensor", &bytes).unwrap().has("f32"));
}

#[test]
fn accessors_name_the_tensor() {
    let float = Array { shape: vec![1], values: Values::Float(vec![1.0]) };
    let int = Array { shape: vec![1], values: Values::Int(vec![1]) };
    assert_eq!((float.floats("x").unwrap(), int.ints("x").unwrap()), (&[1.0][..], &[1][..]));
    assert_eq!(float.ints("x").unwrap_err().to_string(), "tensor `x` holds floats, expected integers");
    assert_eq!(int.floats("y").unwrap_err().to_string(), "tensor `y` holds integers, expected floats");
}

#[test]
fn bits_of_16_bit_tensors() {
    let bytes = tensors(&[
        ("b", Dtype::BF16, &[2], &[0x80, 0x3f, 0x00, 0x80]),
        ("h", Dtype::F16, &[2], &[0x00, 0x3c, 0xff, 0x7b]),
        ("nan", Dtype::F16, &[2], &[0x00, 0x3c, 0x01, 0x7c]),
        ("none", Dtype::F16, &[0], &[]),
        ("w", Dtype::F32, &[1], &[0; 4]),
    ]);
    let (_folder, path) = written("a.safetensors", &bytes);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.read_bits("b").unwrap(), (Precision::BF16, vec![0x3f80, 0x8000]));
    assert_eq!(file.read_bits("h").unwrap(), (Precision::F16, vec![0x3c00, 0x7bff]));
    assert!(matches!(file.read_bits("nan"), Err(E::NotFinite { index: 1, .. })));
    assert!(matches!(file.read_bits("none"), Err(E::Empty { .. })));
    assert!(matches!(file.read_bits("w"), Err(E::DType { .. })));
    assert!(matches!(file.read_bits("x"), Err(E::NoTensor { .. })));
}

#[test]
fn safetensors_that_cannot_be_used() {
    let good = tensors(&[("x", Dtype::F32, &[2], &[0; 8])]);
    for length in 0..good.len() {
        assert!(matches!(open("a.safetensors", &good[..length]), Err(E::File(Malformed { .. }))), "{length}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(open("a.safetensors", &longer), Err(E::File(Malformed { .. }))));
    let half = "9223372036854775807";
    for json in [
        r#"{"x":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}"#.to_string(),
        r#"{"x":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#.to_string(),
        r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.to_string(),
        r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#.to_string(),
        format!(r#"{{"x":{{"dtype":"U8","shape":[{half}],"data_offsets":[0,{half}]}}}}"#),
        "[]".to_string(),
    ] {
        let found = open("a.safetensors", &header(&json, &[0; 4]));
        assert!(matches!(found, Err(E::File(Malformed { .. }))), "{json}");
    }
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(open("a.safetensors", &huge).unwrap_err().to_string().contains("18446744073709551615"));
}

#[test]
fn tensors_that_cannot_be_used() {
    let bytes = tensors(&[
        ("f8", Dtype::F8_E4M3, &[1], &[1]),
        ("empty", Dtype::F32, &[3, 0], &[]),
        ("inf", Dtype::F64, &[2], &le(&[1.0_f64, 1e39].map(f64::to_le_bytes))),
        ("nan", Dtype::F32, &[3], &le(&[0.0, 1.0, f32::NAN].map(f32::to_le_bytes))),
    ]);
    let file = open("a.safetensors", &bytes).unwrap();
    let message = |name: &str| file.read(name).unwrap_err().to_string();
    let expected = "F16, BF16, F32, F64, I64, I32, I16, I8, U8 or BOOL";
    assert!(message("f8").ends_with(&format!("tensor `f8` has dtype F8_E4M3, expected {expected}")));
    assert!(message("empty").ends_with("tensor `empty` of shape [3, 0] has no elements"));
    assert!(message("inf").ends_with("tensor `inf` is inf at flat index 1"));
    assert!(message("nan").ends_with("a.safetensors: tensor `nan` is NaN at flat index 2"));
    assert!(message("x").ends_with("a.safetensors: no tensor `x`"));
}

#[test]
fn files_that_cannot_be_used() {
    let message = |name: &str| open(name, &[]).unwrap_err().to_string();
    assert!(
        message("a.gguf")
            .ends_with("a.gguf: neither .safetensors, .npz, .npy, .pt, .pth, .bin nor a *_FULL_TENSORS.json")
    );
    for name in ["a.bin", "a.pt", "a.npz", "a.json", "a.safetensors"] {
        assert!(message(name).contains(name), "{}", message(name));
    }
    assert!(matches!(TensorFile::open(Path::new("/nowhere/a.npz")), Err(E::File(Io { .. }))));
}

/// The header's numbers agree with the file, which takes no room on the disk.
#[test]
fn a_tensor_that_does_not_fit_into_memory() {
    let values = MAX_TENSOR_BYTES / 4 + 1;
    let header = format!(r#"{{"x":{{"dtype":"F32","shape":[{values}],"data_offsets":[0,{}]}}}}"#, 4 * values);
    let length = (header.len() as u64).to_le_bytes();
    let (_folder, path) = written("a.safetensors", &[&length, header.as_bytes()].concat());
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + 4 * values).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let error = file.read("x").unwrap_err().to_string();
    assert!(error.contains("tensor `x`") && error.contains("at most"), "{error}");
}

#[test]
fn a_folder_without_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.txt"), "").unwrap();
    let error = TensorFile::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("a.npz: a folder with neither .npy files nor a *_FULL_TENSORS.json"), "{error}");
}
