use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use zip::write::{FileOptions, ZipWriter};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn verify(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fixture-runner"))
        .arg("verify")
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

/// Runs with `--json` and gives the exit code with the report.
pub fn report(arguments: &[&str]) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--json", json.to_str().unwrap()]);
    let output = verify(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = fs::read_to_string(&json).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let code = output.status.code().unwrap();
    (code, serde_json::from_str(&text).unwrap())
}

#[track_caller]
pub fn assert_refused(arguments: &[&str], words: &[&str]) {
    let output = verify(arguments);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

pub const MODEL: &str = "fixtures/checkpoints/gqa-sharded";
pub const REFERENCE: &str = "fixtures/gqa-sharded/prompt2/reference.npz";

/// The diagnosis of activations in `file`, and whether they pass.
pub fn observe(file: &Path, more: &[&str]) -> (i32, Value) {
    let file = file.to_str().unwrap();
    let arguments = ["--model", MODEL, "--reference", REFERENCE, "--observed", file];
    let (code, report) = report(&[&arguments, more].concat());
    (code, report["diagnosis"].clone())
}

/// The ids of the causes, best first.
pub fn causes(diagnosis: &Value) -> Vec<&str> {
    let causes = diagnosis["causes"].as_array().unwrap().iter();
    causes.map(|cause| cause["id"].as_str().unwrap()).collect()
}

/// A copy of an npz in a folder of its own: the arrays that `edit` wants, those of f32 as it leaves them. Of
/// the others it is shown no values.
pub fn edited(npz: &str, mut edit: impl FnMut(&str, &mut Vec<f32>) -> bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edited.npz");
    let mut source = zip::ZipArchive::new(fs::File::open(root().join(npz)).unwrap()).unwrap();
    let mut copy = ZipWriter::new(fs::File::create(&path).unwrap());
    for index in 0..source.len() {
        let mut entry = source.by_index(index).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let name = entry.name().strip_suffix(".npy").unwrap().to_string();
        let floats = String::from_utf8_lossy(&bytes[..header]).contains("<f4");
        let (values, _) = bytes[header..].as_chunks::<4>();
        let values = values.iter().filter(|_| floats);
        let mut values = values.map(|value| f32::from_le_bytes(*value)).collect();
        if !edit(&name, &mut values) {
            continue;
        }
        if floats {
            bytes.truncate(header);
            bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        copy.start_file(entry.name(), FileOptions::default()).unwrap();
        copy.write_all(&bytes).unwrap();
    }
    copy.finish().unwrap();
    (folder, path)
}
