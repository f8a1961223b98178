//! Temporary files that no signal leaves behind.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tempfile::{Builder, TempDir};

use crate::ending::{OnEnd, on_end};

/// A folder that is removed when this is dropped, and when a signal ends the program.
pub struct Temporary {
    // Fields are dropped in this order: a signal finds the folder, or its removal.
    folder: TempDir,
    _on_end: OnEnd,
}

impl Temporary {
    /// A folder where temporary files belong.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::inside(&tempfile::env::temp_dir(), "qwen3-")
    }

    /// A folder inside another, its name beginning with `prefix`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn inside(parent: &Path, prefix: &str) -> io::Result<Self> {
        let (folder, on_end) = on_end(|| {
            let folder = Builder::new().prefix(prefix).tempdir_in(parent)?;
            let path = folder.path().to_path_buf();
            Ok((folder, move |_| remove(&path)))
        })?;
        Ok(Self { folder, _on_end: on_end })
    }

    /// [`new`](Self::new), in which all other temporary files of this process are made from now on, those of
    /// libraries too. Once in a process.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn of_process() -> io::Result<Self> {
        let temporary = Self::new()?;
        // Whoever came first keeps its place.
        let _ = tempfile::env::override_temp_dir(temporary.path());
        Ok(temporary)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes a folder in which another thread may still be at work.
fn remove(folder: &Path) {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => sleep(Duration::from_millis(10)),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_when_it_is_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Temporary::inside(parent.path(), ".work-").unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        assert!(folder.path().file_name().unwrap().to_str().unwrap().starts_with(".work-"));
        drop(folder);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        assert!(Temporary::inside(&parent.path().join("none"), "").is_err());
    }
}
