use std::fmt;

use qwen3_trace::Precision;
use serde::{Deserialize, Serialize};

/// What stands for the backend of somebody's activations.
pub const OBSERVED: &str = "observed";

/// What a run is called: `wgpu f32 (without fusion)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    /// The backend's name, or `observed`.
    pub backend: String,
    /// The dtype.
    pub dtype: Precision,
    /// Which build of the program or way to compute, when it is not the usual one.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Label {
    /// The usual build of `backend`.
    pub fn new(backend: &str, dtype: Precision) -> Self {
        Self { backend: backend.into(), dtype, variant: None }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.dtype)?;
        match &self.variant {
            Some(variant) => write!(f, " ({variant})"),
            None => Ok(()),
        }
    }
}
