//! Reports are written whole, or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportFileError {
    /// What the system says.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is a folder of that name.
    #[error("cannot write {path}: it is a folder")]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// What is to be read would be overwritten.
    #[error("cannot write {path}: it is an input, {input}")]
    Input {
        /// The file.
        path: PathBuf,
        /// The input, maybe by another name.
        input: PathBuf,
    },
    /// The later would overwrite the earlier.
    #[error("two reports are to go to {path}")]
    Twice {
        /// The file.
        path: PathBuf,
    },
}

type Result<T> = std::result::Result<T, ReportFileError>;

/// A file that a report will be written to, checked before the run so that a wrong path is found out early.
pub struct ReportFile {
    /// Links followed.
    path: PathBuf,
    /// Is it a terminal, a pipe or another device, which is written to as it is?
    device: bool,
}

impl ReportFile {
    /// Checks that `path` can be written to, and is none of the `inputs`.
    ///
    /// # Errors
    /// When it cannot, is a folder, or is an input.
    pub fn prepare<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let failed = |source| ReportFileError::Io { path: path.into(), source };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            metadata => Some(metadata.map_err(failed)?),
        };
        let Some(metadata) = metadata else {
            let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
            let path = fs::canonicalize(folder_of(path)).map_err(failed)?.join(name);
            temporary(&path).map_err(failed)?;
            let device = false;
            return Ok(Self { path, device });
        };
        if metadata.is_dir() {
            return Err(ReportFileError::Folder { path: path.into() });
        }
        let device = !metadata.is_file();
        let target = fs::canonicalize(path).map_err(failed)?;
        if !device {
            if let Some(input) = inputs.into_iter().find(|input| same_file(&target, input)) {
                return Err(ReportFileError::Input { path: path.into(), input: input.into() });
            }
            temporary(&target).map_err(failed)?;
        }
        Ok(Self { path: target, device })
    }

    /// Checks that no two are the same file.
    ///
    /// # Errors
    /// When two are.
    pub fn check_distinct(files: &[&Self]) -> Result<()> {
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.device) {
            let mut others = files[..index].iter();
            let twice = others.any(|other| other.path == file.path || same_file(&other.path, &file.path));
            if twice {
                return Err(ReportFileError::Twice { path: file.path.clone() });
            }
        }
        Ok(())
    }

    /// Writes `text`: to a file beside it, which then gets its name.
    ///
    /// # Errors
    /// When that fails; what was there before is then still there.
    pub fn write(self, text: &str) -> Result<()> {
        let failed = |source| ReportFileError::Io { path: self.path.clone(), source };
        if self.device {
            let file = OpenOptions::new().write(true).open(&self.path);
            return match file.and_then(|mut file| file.write_all(text.as_bytes())) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let mut file = temporary(&self.path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`.
fn temporary(path: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    // As the user's umask has it, and not for the owner alone, as temporary files are.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path))
}

/// Are both there, and one file, by whatever name?
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    #[cfg(not(unix))]
    let identity = |path: &Path| fs::canonicalize(path).ok();
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn inputs_folders_and_pairs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("input"), "precious").unwrap();
        fs::hard_link(path("input"), path("hard")).unwrap();
        std::os::unix::fs::symlink(path("input"), path("soft")).unwrap();
        std::os::unix::fs::symlink(folder.path(), path("again")).unwrap();
        let input = path("input");
        let prepare = |name: &str| ReportFile::prepare(&path(name), [input.as_path()]);
        for name in ["input", "hard", "soft", "again/input", "again", "none/x"] {
            let error = prepare(name).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(prepare(&"x".repeat(300)).is_err());
        let (one, other) = (prepare("x").unwrap(), prepare("again/x").unwrap());
        assert!(ReportFile::check_distinct(&[&one, &other]).is_err());
        let other = prepare("y").unwrap();
        assert!(ReportFile::check_distinct(&[&one, &other]).is_ok());
        assert_eq!(fs::read_to_string(path("input")).unwrap(), "precious");
    }

    #[test]
    fn links_are_followed_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", path("link")).unwrap();
        let file = ReportFile::prepare(&path("link"), []).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        file.write("new").unwrap();
        assert_eq!(fs::read_to_string(path("old")).unwrap(), "new");
        assert!(path("link").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let null = ReportFile::prepare(Path::new("/dev/null"), []).unwrap();
        null.write("new").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
