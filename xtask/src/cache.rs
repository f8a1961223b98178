//! Large things kept per user, outside the repository: made once, complete or not there at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwen3_command::Temporary;

use crate::workspace::env_path;

/// The file, written last, that says what a folder of the cache holds.
const STAMP: &str = ".complete";

/// `$XDG_CACHE_HOME/qwen3-burn`, else `~/.cache/qwen3-burn`.
///
/// Errors when neither XDG_CACHE_HOME nor HOME is set.
pub fn folder() -> Result<PathBuf> {
    let cache = env_path("XDG_CACHE_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| env_path("HOME").map(|home| home.join(".cache")))
        .or_else(|| env_path("LOCALAPPDATA"))
        .context("no cache directory: neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("qwen3-burn"))
}

/// Whether `folder` was finished with this very `stamp`.
pub fn is_complete(folder: &Path, stamp: &str) -> bool {
    fs::read_to_string(folder.join(STAMP)).is_ok_and(|found| found == stamp)
}

/// Marks `folder` as finished.
pub fn complete(folder: &Path, stamp: &str) -> Result<()> {
    let file = folder.join(STAMP);
    fs::write(&file, stamp).with_context(|| format!("{} cannot be written", file.display()))
}

/// Holds a lock beside `folder` while it is being made; waits while another process holds it.
/// The system lets go of it however the process ends.
pub struct Lock(#[expect(dead_code, reason = "dropping the file releases the lock")] File);

impl Lock {
    /// Takes the lock, and says so when it has to wait.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.with_added_extension("lock");
        let parent = path.parent().context("the cache directory has no parent")?;
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
        let file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("xtask: waiting for another set-up of {}", folder.display());
            file.lock().with_context(|| format!("{} cannot be locked", path.display()))?;
        }
        Ok(Self(file))
    }
}

/// Removes what an interrupted set-up left beside `folder`. Only under its lock.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    let prefix = partial_prefix(folder);
    let parent = folder.parent().context("the cache directory has no parent")?;
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A new folder beside `folder`, on the same file system, removed when dropped.
pub fn partial(folder: &Path) -> Result<Temporary> {
    let parent = folder.parent().context("the cache directory has no parent")?;
    let partial = Temporary::inside(parent, &partial_prefix(folder));
    partial.with_context(|| format!("no folder can be made in {}", parent.display()))
}

fn partial_prefix(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.partial-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_stamp_counts_as_complete() {
        let temp = tempfile::tempdir().unwrap();
        assert!(!is_complete(temp.path(), "recipe 1"));
        complete(temp.path(), "recipe 1").unwrap();
        assert!(is_complete(temp.path(), "recipe 1"));
        assert!(!is_complete(temp.path(), "recipe 2"));
    }

    #[test]
    fn leftovers_go_and_neighbours_stay() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, neighbour) = (temp.path().join("libtorch"), temp.path().join("libtorch-other"));
        fs::create_dir(&neighbour).unwrap();
        let left = temp.path().join(partial_prefix(&folder) + "x");
        fs::create_dir(&left).unwrap();
        remove_leftovers(&folder).unwrap();
        assert!(!left.exists() && neighbour.exists());
    }

    #[test]
    fn a_lock_can_be_taken_again_once_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("libtorch-2.9.0");
        drop(Lock::take(&folder).unwrap());
        let held = Lock::take(&folder).unwrap();
        assert!(File::open(temp.path().join("libtorch-2.9.0.lock")).unwrap().try_lock().is_err());
        drop(held);
    }
}
