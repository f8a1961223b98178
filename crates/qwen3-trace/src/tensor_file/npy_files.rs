#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use qwen3_checkpoint::open_regular;

use super::npy::Npy;
use super::{Format, Stored, no_tensor};
use crate::TraceError;

/// More files and folders than activations take.
const MAX_ENTRIES: usize = 100_000;
/// Folders in folders.
const MAX_DEPTH: usize = 16;

/// Arrays that are a `.npy` file each.
#[derive(Debug)]
pub(super) struct NpyFiles {
    path: PathBuf,
    files: BTreeMap<String, PathBuf>,
    others: Vec<String>,
}

impl NpyFiles {
    /// One file, whose array has the name of the file.
    pub(super) fn one(path: &Path) -> Result<Self, TraceError> {
        let files = BTreeMap::from([(stem(path)?, path.into())]);
        Ok(Self { path: path.into(), files, others: Vec::new() })
    }

    /// All of a folder, and of the folders in it but those behind links; at least one.
    pub(super) fn in_folder(path: &Path) -> Result<Self, TraceError> {
        let mut found = Self { path: path.into(), files: BTreeMap::new(), others: Vec::new() };
        found.walk(path, "", MAX_DEPTH, &mut 0)?;
        if found.files.is_empty() {
            let reason = "a folder with neither .npy files nor a *_FULL_TENSORS.json";
            return Err(TraceError::malformed(path, reason));
        }
        found.others.sort();
        Ok(found)
    }

    /// Lists a folder; the names of what is in it begin with `prefix`.
    fn walk(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        entries: &mut usize,
    ) -> Result<(), TraceError> {
        for entry in fs::read_dir(folder).map_err(|error| io(folder, error))? {
            let entry = entry.map_err(|error| io(folder, error))?;
            let file_name = entry.file_name();
            let name = format!("{prefix}{}", file_name.to_string_lossy());
            if file_name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let readable = file_name.to_str().is_some();
            *entries += 1;
            if *entries > MAX_ENTRIES {
                let reason = format!("more than {MAX_ENTRIES} files and folders");
                return Err(TraceError::malformed(&self.path, reason));
            }
            let is_folder = readable && entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && depth == 0 {
                let reason = format!("folders more than {MAX_DEPTH} deep");
                return Err(TraceError::malformed(&self.path, reason));
            }
            if is_folder {
                self.walk(&entry.path(), &format!("{name}/"), depth - 1, entries)?;
                continue;
            }
            match name.strip_suffix(".npy").filter(|_| readable) {
                Some(array) => drop(self.files.insert(array.into(), entry.path())),
                None => self.others.push(name),
            }
        }
        Ok(())
    }

    /// An array's file, opened, with its header.
    fn open(&self, name: &str) -> Result<(&Path, Npy, BufReader<File>), TraceError> {
        let path = self.files.get(name).ok_or_else(|| no_tensor(&self.path, name))?;
        let (file, length) = open_regular(path)?;
        let mut file = BufReader::new(file);
        let npy = Npy::read(path, name, &mut file, length)?;
        Ok((path, npy, file))
    }
}

impl Format for NpyFiles {
    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        let (_, npy, _) = self.open(name)?;
        Ok(npy.shape())
    }

    fn stored(&self, name: &str) -> Result<Stored, TraceError> {
        let (path, npy, mut file) = self.open(name)?;
        npy.stored(path, name, &mut file)
    }

    fn others(&self) -> &[String] {
        &self.others
    }
}

/// A file's name without its ending, which is the name of the only tensor in it.
pub(super) fn stem(path: &Path) -> Result<String, TraceError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).map(String::from);
    stem.ok_or_else(|| {
        TraceError::malformed(path, "its name, which is that of the tensor in it, is not UTF-8")
    })
}

fn io(path: &Path, source: std::io::Error) -> TraceError {
    TraceError::File(qwen3_checkpoint::CheckpointError::Io { file: path.into(), source })
}
