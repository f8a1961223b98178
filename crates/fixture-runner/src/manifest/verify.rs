#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Manifest;
use crate::error::FixtureError;

impl Manifest {
    /// The canonical path of something in the manifest's folder, which has to exist.
    ///
    /// # Errors
    /// When `relative` is not plain and '/'-separated, does not exist, or leads out of the folder through a
    /// link.
    pub fn path(&self, relative: &str) -> Result<PathBuf, FixtureError> {
        plain(&self.file, relative)?;
        let joined = self.root.join(relative);
        let path = joined.canonicalize().map_err(|source| FixtureError::Io { file: joined, source })?;
        if path.starts_with(&self.root) {
            return Ok(path);
        }
        Err(FixtureError::Path {
            file: self.file.clone(),
            path: relative.into(),
            reason: "it leads out of the folder through a link",
        })
    }

    /// The folder of a checkpoint whose files all have the hashes that the manifest gives, those of its adapter too,
    /// and which holds no other config, weights or index.
    ///
    /// # Errors
    /// When a file is missing, changed, or there but not listed; names the file.
    pub fn verify_checkpoint(&self, name: &str) -> Result<PathBuf, FixtureError> {
        let Some(checkpoint) = self.checkpoints.get(name) else {
            return Err(self.unlisted("checkpoint", name));
        };
        for (path, files) in checkpoint.folders() {
            for (file, sha256) in files {
                check_hash(&self.path(&format!("{path}/{file}"))?, sha256)?;
            }
            let folder = self.path(path)?;
            let io = |source| FixtureError::Io { file: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(io)? {
                let entry = entry.map_err(io)?;
                let name_on_disk = entry.file_name();
                let listed = name_on_disk.to_str().is_some_and(|name| files.contains_key(name));
                if !listed && is_read_by_import(&name_on_disk.to_string_lossy()) {
                    return Err(FixtureError::Stray { file: entry.path(), checkpoint: name.into() });
                }
            }
        }
        self.path(&checkpoint.path)
    }

    /// The path of a listed tensor file that has the hash that the manifest gives.
    ///
    /// # Errors
    /// When the file is not listed, missing or changed; names the file.
    pub fn verify_file(&self, relative: &str) -> Result<PathBuf, FixtureError> {
        let Some(sha256) = self.files.get(relative) else {
            return Err(self.unlisted("file", relative));
        };
        let path = self.path(relative)?;
        check_hash(&path, sha256)?;
        Ok(path)
    }

    fn unlisted(&self, what: &'static str, name: &str) -> FixtureError {
        FixtureError::Unlisted { root: self.root.clone(), what, name: name.into() }
    }
}

/// Could a file of this name change what the import reads?
fn is_read_by_import(name: &str) -> bool {
    // Without regard to case, for file systems that have none.
    let name = name.to_lowercase();
    name == "config.json"
        || name == "adapter_config.json"
        || name.ends_with(".safetensors")
        || name.ends_with(".index.json")
}

/// Refuses every path of the manifest `file` that is not names joined by '/'.
pub(super) fn plain(file: &Path, relative: &str) -> Result<(), FixtureError> {
    let reason = if relative.contains(['\\', ':', '\0']) {
        "it has a backslash, colon or zero byte"
    } else if relative.starts_with('/') {
        "it is absolute"
    } else if relative.split('/').any(|part| part == "..") {
        "it has a `..`"
    } else if relative.split('/').any(|part| part.is_empty() || part == ".") {
        "it has an empty part or a `.`"
    } else {
        return Ok(());
    };
    Err(FixtureError::Path { file: file.into(), path: relative.into(), reason })
}

/// Compares the SHA-256 of a file, read in pieces.
fn check_hash(file: &Path, expected: &str) -> Result<(), FixtureError> {
    let mut hasher = Sha256::new();
    // A named pipe would be waited for.
    let regular = fs::metadata(file).and_then(|metadata| {
        if metadata.is_file() { Ok(()) } else { Err(io::Error::other("not a regular file")) }
    });
    regular
        .and_then(|()| File::open(file))
        .and_then(|mut open| io::copy(&mut open, &mut hasher))
        .map_err(|source| FixtureError::Io { file: file.into(), source })?;
    let found = format!("{:x}", hasher.finalize());
    if found == expected {
        return Ok(());
    }
    Err(FixtureError::Hash { file: file.into(), expected: expected.into(), found })
}
