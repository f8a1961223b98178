//! What the supervisor and a worker say to each other: one JSON value a line.

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Switches};
use crate::manifest::{Kind, TestDType};

/// Supervisor to worker: run this case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The case's id.
    pub case: String,
    /// The precision to run it in.
    pub dtype: TestDType,
}

/// Worker to supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The backend works.
    Ready {
        /// The device, as Burn prints it.
        device: String,
        /// The dtypes it computes in.
        dtypes: Vec<TestDType>,
        /// Fusion and autotune, where the backend has them.
        switches: Option<Switches>,
    },
    /// The backend cannot be used here.
    Unavailable {
        /// Why.
        reason: String,
    },
    /// A job's outcome.
    Done(Box<CaseResult>),
    /// The job could not be run because a fixture is bad.
    BadFixture {
        /// What is wrong, naming the file.
        message: String,
    },
}

/// Starts every line that is a [`Reply`], so that what a backend's library prints is told apart.
pub const REPLY_PREFIX: &str = "fixture-runner:";

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every tensor is within its limit (or the failure was expected).
    Pass,
    /// A tensor is beyond its limit (or an expected failure passed).
    Fail,
    /// The backend's process died.
    Crash,
    /// The backend, or the dtype on it, is not to be had on this machine.
    Unavailable,
}

/// One case on one backend in one dtype.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case's id.
    pub case: String,
    /// The case's kind.
    pub kind: Kind,
    /// The backend.
    pub backend: Backend,
    /// The precision.
    pub dtype: TestDType,
    /// The verdict.
    pub status: Status,
    /// Wall time of loading and computing, in milliseconds; comparing is not counted.
    pub elapsed_ms: f64,
    /// Every tensor compared, in the order of computation.
    pub tensors: Vec<TensorResult>,
    /// Why, when the status needs saying more: a crash, an unavailable backend, an expected failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Fusion and autotune, where the backend has them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub switches: Option<Switches>,
}

/// One tensor of a case against its expectation. Numbers that are not finite are `null` in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TensorResult {
    /// The tensor's name in the fixture.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Mean of squared errors.
    pub mse: Option<f64>,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Where the largest absolute error is.
    pub max_abs_index: Vec<usize>,
    /// Norm of the error over norm of the expectation.
    pub relative: Option<f64>,
    /// Cosine of the angle between both.
    pub cosine: Option<f64>,
    /// Mean squared error over mean square of the expectation.
    pub nmse: Option<f64>,
    /// Largest error in units in the last place of the dtype under test.
    pub max_ulp: Option<f64>,
    /// `max_abs` of Transformers' own run in this dtype against float64.
    pub noise_floor: f64,
    /// The largest `max_abs` that passes.
    pub limit: f64,
    /// Root mean square error.
    pub rms: Option<f64>,
    /// Root mean square error of Transformers' own run.
    pub noise_floor_rms: f64,
    /// The largest `rms` that passes.
    pub limit_rms: f64,
    /// Value expected at `max_abs_index`.
    pub expected: Option<f64>,
    /// Value computed at `max_abs_index`.
    pub observed: Option<f64>,
    /// The verdict.
    pub pass: bool,
    /// Anything else worth saying: ties among generated ids, elements unequal in their bits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}
