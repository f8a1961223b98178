#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use super::archive::Archive;
use super::npy::Npy;
use super::{Format, Stored, no_tensor};
use crate::TraceError;

/// An open npz file. Arrays are unpacked when they are read.
#[derive(Debug)]
pub(super) struct Npz {
    archive: Archive,
    /// The archive's entry for each array.
    entries: BTreeMap<String, String>,
}

impl Npz {
    /// Opens a file and reads its directory, in which no array may occur twice.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let archive = Archive::open(path, "an npz file")?;
        let names = archive.names().iter();
        let entries: BTreeMap<_, _> =
            names.map(|entry| (array_name(entry).to_string(), entry.clone())).collect();
        if entries.len() != archive.len() {
            let reason =
                format!("{} entries for {} arrays: a name occurs twice", archive.len(), entries.len());
            return Err(TraceError::malformed(path, reason));
        }
        Ok(Self { archive, entries })
    }

    fn entry(&self, name: &str) -> Result<&str, TraceError> {
        let entry = self.entries.get(array_name(name));
        entry.map(String::as_str).ok_or_else(|| no_tensor(self.archive.file(), name))
    }
}

impl Format for Npz {
    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// With or without `.npy`.
    fn has(&self, name: &str) -> bool {
        self.entries.contains_key(array_name(name))
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        self.archive.with(self.entry(name)?, name, |entry, size| {
            Ok(Npy::read(self.archive.file(), name, entry, size)?.shape())
        })
    }

    fn stored(&self, name: &str) -> Result<Stored, TraceError> {
        self.archive.with(self.entry(name)?, name, |entry, size| {
            let file = self.archive.file();
            Npy::read(file, name, entry, size)?.stored(file, name, entry)
        })
    }
}

/// The array that an archive's entry holds: `numpy.savez` adds `.npy` to its name.
fn array_name(entry: &str) -> &str {
    entry.strip_suffix(".npy").unwrap_or(entry)
}
