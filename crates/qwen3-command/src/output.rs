//! Where results are written: checked before the work, written whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::ending::{OnEnd, on_end};

/// Why something cannot be written to where a flag says.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {}: {problem}", path.display())]
pub struct OutputError {
    /// The flag.
    pub flag: &'static str,
    /// The path as it was given.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: OutputProblem,
}

/// What is wrong with the path of an output.
#[derive(Debug, thiserror::Error)]
pub enum OutputProblem {
    /// What the system says.
    #[error("cannot be written: {0}")]
    Io(#[source] io::Error),
    /// The folder that it is to lie in is not there.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// There is a folder of that name, or the name is that of one.
    #[error("is a folder, and a file is to be written")]
    Folder,
    /// There is a file where a folder is needed.
    #[error("{} is no folder", .0.display())]
    NoFolderThere(PathBuf),
    /// It is a terminal, a pipe or another device.
    #[error("is no regular file")]
    Device,
    /// What is to be read would be overwritten.
    #[error("it is an input, {}", .0.display())]
    Input(PathBuf),
    /// The later would overwrite the earlier.
    #[error("two reports are to go there")]
    Twice,
}

type Result<T> = std::result::Result<T, OutputError>;

/// A file that a result will be written to, checked before the work so that a wrong path is found out early.
#[derive(Debug)]
pub struct OutputFile {
    flag: &'static str,
    /// As it was given.
    given: PathBuf,
    /// Links followed.
    path: PathBuf,
    /// Is it a terminal, a pipe or another device, which is written to as it is?
    device: bool,
}

impl OutputFile {
    /// Checks that the path that `flag` names can be written to, and is none of the `inputs`.
    ///
    /// # Errors
    /// When it cannot, is a folder, or is an input.
    pub fn prepare<'a>(
        flag: &'static str,
        path: &Path,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self> {
        let failed = |problem| OutputError { flag, path: path.into(), problem };
        let (target, device) = target(path).map_err(failed)?;
        let file = Self { flag, given: path.into(), path: target, device };
        file.check_inputs(inputs)?;
        Ok(file)
    }

    /// [`prepare`](Self::prepare) for what only a regular file can hold.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and when it is a device or a pipe.
    pub fn regular<'a>(
        flag: &'static str,
        path: &Path,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self> {
        let file = Self::prepare(flag, path, inputs)?;
        if file.device {
            return Err(file.error(OutputProblem::Device));
        }
        Ok(file)
    }

    /// Checks that it is none of the `inputs`, by whatever name.
    ///
    /// # Errors
    /// When it is.
    pub fn check_inputs<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let same = |input: &&Path| !self.device && same_file(&self.path, input);
        match inputs.into_iter().find(same) {
            Some(input) => Err(self.error(OutputProblem::Input(input.into()))),
            None => Ok(()),
        }
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
                return Err(file.error(OutputProblem::Twice));
            }
        }
        Ok(())
    }

    /// Where the result goes, links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the result will be in.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Writes `text`: to a file beside it, which then gets its name.
    ///
    /// # Errors
    /// When that fails; what was there before is then still there.
    pub fn write(self, text: &str) -> Result<()> {
        let failed = |error| self.error(OutputProblem::Io(error));
        if self.device {
            let file = OpenOptions::new().write(true).open(&self.path);
            return match file.and_then(|mut file| file.write_all(text.as_bytes())) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let (mut file, _on_end) = temporary(&self.path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn error(&self, problem: OutputProblem) -> OutputError {
        OutputError { flag: self.flag, path: self.given.clone(), problem }
    }
}

/// Checks that a folder can be written to, or be made, where `flag` says.
///
/// # Errors
/// When it cannot.
pub fn check_output_folder(flag: &'static str, path: &Path) -> Result<()> {
    let failed = |problem| OutputError { flag, path: path.into(), problem };
    let there = path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let there = there.into_iter().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(failed(OutputProblem::NoFolderThere(there.into())));
    }
    temporary(&there.join("x")).map_err(|error| failed(OutputProblem::Io(error)))?;
    Ok(())
}

/// The file that `path` names, links followed, and whether it is a device; fails when none can be written there.
fn target(path: &Path) -> std::result::Result<(PathBuf, bool), OutputProblem> {
    // Which a path forgets that is taken apart.
    let ends = |end: &str| path.as_os_str().as_encoded_bytes().ends_with(end.as_bytes());
    if ends("/") || ends("/.") || path == Path::new(".") {
        return Err(OutputProblem::Folder);
    }
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(OutputProblem::NoFolderThere(folder_of(path).into()));
        }
        metadata => Some(metadata.map_err(OutputProblem::Io)?),
    };
    let Some(metadata) = metadata else {
        let name = path.file_name().ok_or_else(|| OutputProblem::Io(ErrorKind::InvalidInput.into()))?;
        let folder = folder_of(path);
        let folder = fs::canonicalize(folder).map_err(|error| match error.kind() {
            ErrorKind::NotFound => OutputProblem::NoFolder(folder.into()),
            _ => OutputProblem::Io(error),
        })?;
        let path = folder.join(name);
        temporary(&path).map_err(OutputProblem::Io)?;
        return Ok((path, false));
    };
    if metadata.is_dir() {
        return Err(OutputProblem::Folder);
    }
    let target = fs::canonicalize(path).map_err(OutputProblem::Io)?;
    let device = !metadata.is_file();
    if !device {
        temporary(&target).map_err(OutputProblem::Io)?;
    }
    Ok((target, device))
}

/// The folder that a path is in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`.
fn temporary(path: &Path) -> io::Result<(NamedTempFile, OnEnd)> {
    let mut builder = tempfile::Builder::new();
    // As the user's umask has it, and not for the owner alone, as temporary files are.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    on_end(|| {
        let file = builder.tempfile_in(folder_of(path))?;
        let path = file.path().to_path_buf();
        let undo = move |_| {
            let _ = fs::remove_file(path);
        };
        Ok((file, undo))
    })
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
        let prepare = |name: &str| OutputFile::prepare("--out", &path(name), [input.as_path()]);
        for name in ["input", "hard", "soft", "again/input", "again", "none/x"] {
            let error = prepare(name).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(prepare(&"x".repeat(300)).is_err());
        let (one, other) = (prepare("x").unwrap(), prepare("again/x").unwrap());
        assert!(OutputFile::check_distinct(&[&one, &other]).is_err());
        let other = prepare("y").unwrap();
        assert!(OutputFile::check_distinct(&[&one, &other]).is_ok());
        assert_eq!(fs::read_to_string(path("input")).unwrap(), "precious");
    }

    #[test]
    fn what_cannot_be_written_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let problem = |name: &str| {
            let path = folder.path().join(name);
            let error = OutputFile::regular("--out", &path, []).err().unwrap().to_string();
            assert!(error.starts_with(&format!("--out {}: ", path.display())), "{error}");
            error
        };
        for (name, reason) in [
            ("new/", "is a folder"),
            ("new/.", "is a folder"),
            ("there", "is a folder"),
            ("there/", "is a folder"),
            ("file/", "is a folder"),
            ("file/x", "is no folder"),
            ("none/x", "there is no folder"),
            ("/dev/null", "is no regular file"),
            ("/proc/x", "cannot be written"),
        ] {
            let error = problem(name);
            assert!(error.contains(reason), "{error}");
        }
        assert!(OutputFile::prepare("--json", Path::new("/dev/null"), []).is_ok());
        for (name, good) in [("there", true), ("new/er", true), ("file", false), ("file/x", false)] {
            let checked = check_output_folder("--out", &folder.path().join(name));
            assert_eq!(checked.is_ok(), good, "{checked:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_are_followed_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("old"), "old").unwrap();
        std::os::unix::fs::symlink("old", path("link")).unwrap();
        let file = OutputFile::prepare("--out", &path("link"), []).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        file.write("new").unwrap();
        assert_eq!(fs::read_to_string(path("old")).unwrap(), "new");
        assert!(path("link").is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let null = OutputFile::prepare("--out", Path::new("/dev/null"), []).unwrap();
        null.write("new").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
