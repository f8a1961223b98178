//! Where the fixtures and the official files are.
#![allow(dead_code)]

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use npyz::{Deserialize, NpyFile};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

/// The folder of `manifest.json`: the workspace, or `QWEN3_FIXTURES`.
pub fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    env::var_os("QWEN3_FIXTURES").map_or(workspace, PathBuf::from)
}

/// The official files, which the repository does not hold: `../shared/assets` beside the workspace, or
/// `QWEN3_ASSETS`. When they are not there, says so: a test that needs them then shows nothing.
pub fn assets(test: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets");
    let folder = env::var_os("QWEN3_ASSETS").map_or(beside, PathBuf::from);
    if folder.join("Qwen3-0.6B/tokenizer.json").is_file() {
        return Some(folder);
    }
    println!("SKIPPED {test}: no official tokenizer in {}", folder.display());
    None
}

/// The manifest's list of fixtures about text, and its hashes.
pub struct Manifest {
    root: PathBuf,
    json: Value,
}

impl Manifest {
    pub fn open() -> Self {
        let root = root();
        let text = fs::read_to_string(root.join("manifest.json")).expect("manifest.json");
        Self { root, json: serde_json::from_str(&text).expect("manifest.json is JSON") }
    }

    /// The only fixture of this kind.
    pub fn fixture(&self, kind: &str) -> &Value {
        let list = self.json["text"].as_array().expect("manifest.json lists fixtures under `text`");
        let mut found = list.iter().filter(|entry| entry["kind"] == kind);
        let entry = found.next().unwrap_or_else(|| panic!("no fixture of kind {kind}"));
        assert!(found.next().is_none(), "two fixtures of kind {kind}");
        entry
    }

    /// A fixture's file, after a look at its hash.
    pub fn file(&self, entry: &Value, key: &str) -> PathBuf {
        let name = entry[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {entry}"));
        let hash = entry["sha256"].as_str().filter(|_| key == "file");
        let hash = hash.or(self.json["files"][name].as_str());
        check(&self.root.join(name), hash.unwrap_or_else(|| panic!("no hash of {name}")))
    }

    /// The folder of a fixture's checkpoint, after a look at what this crate reads of it.
    pub fn checkpoint(&self, entry: &Value) -> PathBuf {
        let name = entry["checkpoint"].as_str().expect("a checkpoint's name");
        let checkpoint = &self.json["checkpoints"][name];
        let folder = self.root.join(checkpoint["path"].as_str().expect("a checkpoint's path"));
        let files = checkpoint["files"].as_object().expect("a checkpoint's files");
        for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            check(&folder.join(file), files[file].as_str().expect("a hash"));
        }
        folder
    }
}

fn check(file: &Path, expected: &str) -> PathBuf {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected, "{} is not the file of the manifest", file.display());
    file.into()
}

/// The arrays of an npz file.
pub struct Arrays(ZipArchive<fs::File>);

impl Arrays {
    pub fn open(file: &Path) -> Self {
        let archive = fs::File::open(file).map_err(ZipError::Io);
        let archive = archive.and_then(ZipArchive::new);
        Self(archive.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    }

    /// Shape and values of an array.
    pub fn get<T: Deserialize>(&mut self, name: &str) -> (Vec<u64>, Vec<T>) {
        let entry = self.0.by_name(&format!("{name}.npy"));
        let entry = entry.unwrap_or_else(|error| panic!("{name}: {error}"));
        let array = NpyFile::new(entry).unwrap_or_else(|error| panic!("{name}: {error}"));
        let shape = array.shape().to_vec();
        let values = array.into_vec();
        (shape, values.unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    /// The parts that were joined into one array.
    pub fn parts<T: Deserialize + Clone>(&mut self, name: &str) -> Vec<Vec<T>> {
        let (_, offsets) = self.get::<i64>(&format!("{name}_offsets"));
        let (_, values) = self.get::<T>(name);
        let part = |pair: &[i64]| values[pair[0] as usize..pair[1] as usize].to_vec();
        offsets.windows(2).map(part).collect()
    }

    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let parts = self.parts::<u8>(name).into_iter();
        parts.map(|bytes| String::from_utf8(bytes).expect("text is UTF-8")).collect()
    }
}

/// The values of a flat JSON object that are numbers.
pub fn numbers(entry: &Value) -> HashMap<&str, f64> {
    let fields = entry.as_object().expect("an object").iter();
    fields.filter_map(|(key, value)| Some((key.as_str(), value.as_f64()?))).collect()
}
