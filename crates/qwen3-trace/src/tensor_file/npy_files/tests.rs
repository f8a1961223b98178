use std::fs;
use std::path::Path;

use crate::tensor_file::npz::tests::{npy, plain};
use crate::tensor_file::tests::{le, open};
use crate::{Array, TensorFile, TraceError, Values};

fn numbers(values: [f32; 2]) -> Vec<u8> {
    npy(&plain("<f4", "(2, 1)"), &le(&values.map(f32::to_le_bytes)))
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_file_is_a_tensor_of_its_name() {
    let file = open("logits.npy", &numbers([1.5, -2.0]));
    // The file is gone, and is opened when it is read.
    assert!(matches!(file.unwrap().read("logits"), Err(TraceError::File(_))));
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "layer_00.mlp.npy", &numbers([1.5, -2.0]));
    let file = TensorFile::open(&folder.path().join("layer_00.mlp.npy")).unwrap();
    assert_eq!(
        (file.names(), file.shape("layer_00.mlp").unwrap()),
        (vec!["layer_00.mlp".into()], vec![2, 1])
    );
    let array = Array { shape: vec![2, 1], values: Values::Float(vec![1.5, -2.0]) };
    assert_eq!(file.read("layer_00.mlp").unwrap(), array);
    assert!(matches!(file.read("mlp"), Err(TraceError::NoTensor { .. })));
}

#[test]
fn a_folder_has_tensors_by_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("logits.npy", 1.0), ("layers/0/mlp.npy", 2.0), ("layers/10/mlp.npy", 3.0)] {
        put(folder.path(), name, &numbers([value, 0.5]));
    }
    for name in [".hidden.npy", ".git/x.npy", "layers/notes.txt"] {
        put(folder.path(), name, b"");
    }
    let file = TensorFile::open(folder.path()).unwrap();
    assert_eq!(file.names(), ["layers/0/mlp", "layers/10/mlp", "logits"]);
    assert_eq!(file.others(), ["layers/notes.txt"]);
    assert!(file.has("logits") && !file.has("logits.npy") && !file.has(".hidden"));
    assert_eq!(file.read("layers/10/mlp").unwrap().values, Values::Float(vec![3.0, 0.5]));
}

#[test]
fn what_is_in_a_folder_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "big.npy", &npy(&plain("<f4", "(1000000000000,)"), &[0; 4]));
    put(folder.path(), "short.npy", &numbers([1.0, 2.0])[..70]);
    let file = TensorFile::open(folder.path()).unwrap();
    for name in ["big", "short"] {
        for error in [file.shape(name).unwrap_err(), file.read(name).unwrap_err()] {
            let (error, path) = (error.to_string(), folder.path().join(format!("{name}.npy")));
            assert!(error.starts_with(&format!("{}: tensor `{name}`", path.display())), "{error}");
        }
    }

    let deep = tempfile::tempdir().unwrap();
    put(deep.path(), &format!("{}x.npy", "a/".repeat(17)), &numbers([1.0, 2.0]));
    let error = TensorFile::open(deep.path()).unwrap_err().to_string();
    assert!(error.contains("folders more than 16 deep"), "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_are_not_opened_and_links_to_folders_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "real.npy", &numbers([1.0, 2.0]));
    std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.npy")).unwrap();
    std::os::unix::fs::symlink("real.npy", folder.path().join("linked.npy")).unwrap();
    let file = TensorFile::open(folder.path()).unwrap();
    assert_eq!(
        (file.names(), file.others()),
        (vec!["linked".into(), "real".into(), "zero".into()], &["again".into()][..])
    );
    assert_eq!(file.read("linked").unwrap(), file.read("real").unwrap());
    let error = file.shape("zero").unwrap_err().to_string();
    assert!(error.contains("zero.npy") && error.contains("not a regular file"), "{error}");
}
