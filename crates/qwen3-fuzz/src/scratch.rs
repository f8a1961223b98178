//! The folder that one input lives in: `in` with its files, `out` for what is written, `tmp` for TMPDIR.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of an input; removed with this unless it is [kept](Self::keep).
pub struct Scratch(TempDir);

impl Scratch {
    /// Empty folders.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("qwen3-fuzz-").tempdir()?;
        for name in ["in", "out", "tmp"] {
            fs::create_dir(folder.path().join(name))?;
        }
        Ok(Self(folder))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file of the input.
    pub fn input(&self, name: &str) -> PathBuf {
        self.path().join("in").join(name)
    }

    /// What lies in the folder named `name`, by path, with its length.
    pub fn listing(&self, name: &str) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let base = self.path().join(name);
        list(&base, &base, &mut found);
        found
    }

    /// Moves the folder to `place`.
    ///
    /// # Errors
    /// When that cannot be written to.
    pub fn keep(self, place: &Path) -> io::Result<()> {
        copy(self.path(), place)
    }
}

fn list(base: &Path, folder: &Path, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            list(base, &path, found);
        }
        let name = path.strip_prefix(base).unwrap_or(&path).to_string_lossy().into_owned();
        found.insert(name, if metadata.is_file() { metadata.len() } else { 0 });
    }
}

/// Copies a folder with files and links; anything else is left out, and so is what a hole makes large.
///
/// # Errors
/// Those of the file system.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let metadata = from.symlink_metadata()?;
        if metadata.is_dir() {
            copy(&from, &to)?;
        } else if metadata.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else if metadata.is_file() && metadata.len() < 1 << 30 {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
