use std::path::PathBuf;

use thiserror::Error;

/// Why a manifest or a fixture cannot be used. Names the file, and the case or tensor where there is one.
#[derive(Debug, Error)]
pub enum FixtureError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is larger than a file of its sort can be.
    #[error("{}: {bytes} bytes, at most {limit} are read", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The manifest is not JSON of the manifest's form.
    #[error("{}: {source}", file.display())]
    Json {
        /// The manifest.
        file: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The manifest has a schema version that this program does not know.
    #[error("{}: schema {found}, this program reads schema {expected}", file.display())]
    Schema {
        /// The manifest.
        file: PathBuf,
        /// The version that is read.
        expected: u64,
        /// The version in the file.
        found: String,
    },
    /// An entry of the manifest, outside its cases, is not valid.
    #[error("{}: `{key}`: {reason}", file.display())]
    Entry {
        /// The manifest.
        file: PathBuf,
        /// The entry's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two cases have the same id.
    #[error("{}: two cases with id `{case}`", file.display())]
    DuplicateCase {
        /// The manifest.
        file: PathBuf,
        /// The id.
        case: String,
    },
    /// A case has a kind that this program does not know.
    #[error("{}: case `{case}`: unknown kind `{kind}`", file.display())]
    UnknownKind {
        /// The manifest.
        file: PathBuf,
        /// The case's id.
        case: String,
        /// Its kind.
        kind: String,
    },
    /// A case is not valid.
    #[error("{}: case `{case}`: {reason}", file.display())]
    Case {
        /// The manifest.
        file: PathBuf,
        /// The case's id.
        case: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path is not a plain relative path, or leads out of the manifest's folder.
    #[error("{}: path `{path}` is refused: {reason}", file.display())]
    Path {
        /// The manifest.
        file: PathBuf,
        /// The path as the manifest has it.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The manifest does not list a checkpoint or file that was asked for.
    #[error("{}: the manifest lists no {what} `{name}`", root.display())]
    Unlisted {
        /// The manifest's folder.
        root: PathBuf,
        /// "checkpoint" or "file".
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// A file is not the one that the manifest was written for.
    #[error("{}: SHA-256 is {found}, the manifest says {expected}", file.display())]
    Hash {
        /// The file.
        file: PathBuf,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// A checkpoint's folder holds a config, weights or an index that the manifest does not list.
    #[error("{}: not in the manifest's list for checkpoint `{checkpoint}`", file.display())]
    Stray {
        /// The file.
        file: PathBuf,
        /// The checkpoint.
        checkpoint: String,
    },
}
