//! Byte-for-byte comparison of two directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a comparison found; paths are relative to both directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many files are the same, byte for byte.
    pub identical: usize,
    /// One line for each file that is not: `differs`, `missing` or `extra`, and its path.
    pub differences: Vec<String>,
}

/// Compares `entries` (files, or folders with all that is in them) of two directories.
///
/// A file only in `expected` is missing from `found`; one only in `found` is extra.
/// Errors when a file or folder that is there cannot be read.
pub fn compare(expected: &Path, found: &Path, entries: &[&str]) -> Result<Comparison> {
    let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        collect(expected, Path::new(entry), &mut left)?;
        collect(found, Path::new(entry), &mut right)?;
    }
    let mut comparison = Comparison::default();
    for path in left.union(&right) {
        let problem = match (left.contains(path), right.contains(path)) {
            (true, false) => Some("missing"),
            (false, true) => Some("extra"),
            _ if read(&expected.join(path))? != read(&found.join(path))? => Some("differs"),
            _ => None,
        };
        match problem {
            Some(word) => comparison.differences.push(format!("{word:<8}{}", path.display())),
            None => comparison.identical += 1,
        }
    }
    Ok(comparison)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// Adds the files of `base/relative`, itself or in it, to `files`; nothing when it is not there.
fn collect(base: &Path, relative: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let path = base.join(relative);
    if path.is_dir() {
        for entry in fs::read_dir(&path).with_context(|| format!("{} cannot be read", path.display()))? {
            collect(base, &relative.join(entry?.file_name()), files)?;
        }
    } else if path.exists() {
        files.insert(relative.to_path_buf());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(base: &Path, path: &str, bytes: &[u8]) {
        let file = base.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    #[test]
    fn equal_directories_have_no_differences() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for base in [a.path(), b.path()] {
            write(base, "manifest.json", b"{}");
            write(base, "fixtures/x/norm-00.safetensors", &[0, 1, 2]);
        }
        write(b.path(), "not-compared.txt", b"");
        let comparison = compare(a.path(), b.path(), &["manifest.json", "fixtures"]).unwrap();
        assert_eq!(comparison, Comparison { identical: 2, differences: vec![] });
    }

    #[test]
    fn each_kind_of_difference_is_listed() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(a.path(), "fixtures/changed", &[1, 2, 3]);
        write(b.path(), "fixtures/changed", &[1, 2, 4]);
        write(a.path(), "fixtures/gone", b"");
        write(b.path(), "fixtures/new/file", b"");
        write(a.path(), "manifest.json", b"{}");
        let comparison = compare(a.path(), b.path(), &["manifest.json", "fixtures"]).unwrap();
        assert_eq!(comparison.identical, 0);
        assert_eq!(
            comparison.differences,
            [
                "differs fixtures/changed",
                "missing fixtures/gone",
                "extra   fixtures/new/file",
                "missing manifest.json"
            ]
        );
    }
}
