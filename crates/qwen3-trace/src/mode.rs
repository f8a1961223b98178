use std::fmt;

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
