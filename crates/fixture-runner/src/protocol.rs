//! What the supervisor and a worker say to each other: one JSON value a line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use qwen3_report::{CaseResult, Timing};
use qwen3_trace::{Mode, Precision, Switches};
use serde::{Deserialize, Serialize};

/// Supervisor to worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Run a case of the manifest.
    Case {
        /// The case's id.
        case: String,
        /// The precision to run it in.
        dtype: Precision,
    },
    /// Run a model on a reference's prompt, and write what passes through it.
    Observe(Observe),
}

/// What to observe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observe {
    /// The checkpoint.
    #[serde(with = "any_path")]
    pub model: PathBuf,
    /// The folder of the adapter that it is run with.
    pub adapter: Option<OsString>,
    /// The reference.
    #[serde(with = "any_path")]
    pub reference: PathBuf,
    /// The precision to run in.
    pub dtype: Precision,
    /// How layers get their input.
    pub modes: Vec<Mode>,
    /// The layers to run.
    pub layers: Range<usize>,
    /// The folder to write the activations to.
    #[serde(with = "any_path")]
    pub out: PathBuf,
}

/// A path by its bytes, for not every one is Unicode.
mod any_path {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

/// Worker to supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The backend works, and computes in these dtypes.
    Ready(Vec<Precision>),
    /// The backend cannot be used here, and why.
    Unavailable(String),
    /// What the job is at.
    Progress(String),
    /// The job could not be run because its input is bad; what is wrong, naming the file.
    BadInput(String),
    /// A case's outcome.
    Case(Box<CaseResult>),
    /// The activations are written.
    Observed(Observed),
}

/// How an observation went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Wall time of loading and computing, in milliseconds.
    pub elapsed_ms: f64,
    /// Fusion and autotune, where the backend has them.
    pub switches: Option<Switches>,
    /// The process's largest resident set, in MiB, where the system tells.
    pub peak_rss_mb: Option<f64>,
    /// How long each part took, in the order of computation.
    pub timings: Vec<Timing>,
}

/// Starts every line that is a [`Reply`], so that what a backend's library prints is told apart.
pub const REPLY_PREFIX: &str = "fixture-runner:";

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_that_is_no_text_arrives() {
        let path = PathBuf::from(OsStr::from_bytes(b"mod\xffel"));
        let job = Observe {
            model: path.clone(),
            adapter: Some(path.clone().into()),
            reference: path.join("reference.npz"),
            dtype: Precision::F32,
            modes: vec![Mode::Isolated],
            layers: 0..1,
            out: path.join("out"),
        };
        let line = serde_json::to_string(&job).unwrap();
        let read: Observe = serde_json::from_str(&line).unwrap();
        assert_eq!(read.adapter, job.adapter);
        assert_eq!([&read.model, &read.reference, &read.out], [&job.model, &job.reference, &job.out]);
    }
}
