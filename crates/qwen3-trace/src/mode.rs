use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a layer gets its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// From the layer before it: errors add up.
    Accumulated,
    /// From the reference: each layer's own error.
    Isolated,
    /// From the layer before it, but the reference is injected after one layer: what the layers behind
    /// it make of right values.
    Patched,
}

impl Mode {
    /// All.
    pub const ALL: [Self; 3] = [Self::Accumulated, Self::Isolated, Self::Patched];

    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accumulated => "accumulated",
            Self::Isolated => "isolated",
            Self::Patched => "patched",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.name() == text);
        known.ok_or_else(|| {
            format!("unknown mode `{text}`, expected {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
