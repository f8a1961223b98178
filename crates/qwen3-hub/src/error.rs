//! Why a model cannot be had.

use std::io;
use std::path::PathBuf;

use hf_hub::api::sync::ApiError;
use thiserror::Error;

/// Why a model cannot be had from the hub.
#[derive(Debug, Error)]
pub enum HubError {
    /// It is not in the cache, and the environment forbids to ask for it.
    #[error("HF_HUB_OFFLINE is set")]
    Offline,
    /// The client of the hub cannot be made.
    #[error("the hub's client cannot be made")]
    Client(#[source] ApiError),
    /// The hub does not say what files there are.
    #[error("the hub cannot list {model}")]
    List {
        /// The model.
        model: String,
        /// What the client says.
        #[source]
        source: ApiError,
    },
    /// The hub's name of a snapshot is none.
    #[error("the hub calls the snapshot of {model} {found:?}")]
    Snapshot {
        /// The model.
        model: String,
        /// The name that was found.
        found: String,
    },
    /// A file cannot be had.
    #[error("{file}")]
    File {
        /// Its name.
        file: String,
        /// What the client says.
        #[source]
        source: ApiError,
    },
    /// The hub's etag of a file is no name.
    #[error("{file}: the hub's etag is {found:?}")]
    Etag {
        /// The file.
        file: String,
        /// The etag that was found.
        found: String,
    },
    /// The model changed while it was downloaded.
    #[error("{file}: the hub has {found:?} now; it had {expected:?}")]
    Moved {
        /// The file at which it was seen.
        file: String,
        /// The snapshot that was listed.
        expected: String,
        /// The snapshot now.
        found: String,
    },
    /// What came is not what the hub describes.
    #[error("{file} was downloaded {tries} times and is damaged each time: {found}")]
    Damaged {
        /// The file.
        file: String,
        /// How often it was asked for.
        tries: usize,
        /// What was found and what was expected.
        found: String,
    },
    /// The index of shards is not sound.
    #[error("{file}: {problem}")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The cache cannot be used.
    #[error("{} cannot be {action}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `read`, `written`, ...
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl HubError {
    /// That `path` cannot be used, for `map_err`.
    pub(crate) fn cache(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cache { path, action, source }
    }
}
