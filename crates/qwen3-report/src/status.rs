use std::fmt;

use serde::{Deserialize, Serialize};

/// How a case or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything is within its limit (or the failure was expected, or there was nothing to compare with).
    Pass,
    /// A tensor is beyond its limit or a token differs (or an expected failure passed).
    Fail,
    /// The backend's process died.
    Crash,
    /// The backend, or the dtype on it, is not to be had on this machine.
    Unavailable,
}

impl Status {
    /// Pass or fail.
    pub fn of(pass: bool) -> Self {
        if pass { Self::Pass } else { Self::Fail }
    }

    /// Did it go wrong?
    pub fn failed(self) -> bool {
        matches!(self, Self::Fail | Self::Crash)
    }

    /// Was anything computed to its end?
    pub fn ran(self) -> bool {
        matches!(self, Self::Pass | Self::Fail)
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Crash => "crash",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
