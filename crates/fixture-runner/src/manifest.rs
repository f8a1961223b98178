//! The catalogue of parity cases, `manifest.json`, checked once, when it is read.

mod case;
mod check;
mod raw;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::case::{
    AttentionSizes, Case, Data, ExpectedFailure, Norm, Place, SameDType, Subject, TensorList,
};
use crate::error::FixtureError;

/// The schema version that is read.
const SCHEMA: u64 = 1;
/// A manifest larger than this is not one.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// A manifest whose entries and cross references have been checked. Its files have not been read.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The manifest's folder, canonical; every path is relative to it and stays inside it.
    pub root: PathBuf,
    /// What made the fixtures: package versions and script hashes.
    pub generator: serde_json::Value,
    /// The checkpoints by name.
    pub checkpoints: BTreeMap<String, CheckpointFiles>,
    /// SHA-256 of each tensor file, by its path.
    pub files: BTreeMap<String, String>,
    /// The cases in the file's order; no two have the same id.
    pub cases: Vec<Case>,
}

/// A checkpoint folder and what belongs in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFiles {
    /// The folder, relative to the manifest's.
    pub path: String,
    /// SHA-256 of each file, by its name in the folder.
    #[serde(deserialize_with = "raw::unique")]
    pub files: BTreeMap<String, String>,
    /// The adapter that the model is run with.
    pub adapter: Option<AdapterFiles>,
}

/// An adapter's folder and what belongs in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterFiles {
    /// The folder, relative to the manifest's.
    pub path: String,
    /// SHA-256 of each file, by its name in the folder.
    #[serde(deserialize_with = "raw::unique")]
    pub files: BTreeMap<String, String>,
}

impl CheckpointFiles {
    /// The folders that are read, and their files: the checkpoint's, and that of its adapter.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        let adapter = self.adapter.iter().map(|adapter| (adapter.path.as_str(), &adapter.files));
        [(self.path.as_str(), &self.files)].into_iter().chain(adapter)
    }
}

impl Manifest {
    /// Reads and checks a manifest; its folder becomes the root of all its paths.
    ///
    /// # Errors
    /// When the file cannot be read, is larger than 64 MiB, is not JSON of schema 1 (unknown fields and
    /// duplicate keys included), or when an entry or case is inconsistent; names the case.
    pub fn read(path: &Path) -> Result<Self, FixtureError> {
        let io = |source| FixtureError::Io { file: path.into(), source };
        let file = File::open(path).map_err(io)?;
        let mut text = Vec::new();
        // Bounds the read itself: a pipe or a growing file has no length to check beforehand.
        file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > MAX_MANIFEST_BYTES {
            let length = std::fs::metadata(path).map_err(io)?.len();
            return Err(FixtureError::TooLarge {
                file: path.into(),
                bytes: length.max(text.len() as u64),
                limit: MAX_MANIFEST_BYTES,
            });
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        check::manifest(path, folder.canonicalize().map_err(io)?, &text)
    }

    /// The packages that made the expected values, as in `transformers 5.23.0, torch 2.9.0`; empty when
    /// [`Manifest::generator`] has neither.
    pub fn oracle(&self) -> String {
        let version = |name: &&str| self.generator["packages"][*name].as_str();
        let packages = ["transformers", "torch"].into_iter();
        let found = packages.filter_map(|name| Some(format!("{name} {}", version(&name)?)));
        found.collect::<Vec<_>>().join(", ")
    }
}
