//! The programs under test.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A program of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The command.
    Qwen3,
    /// `parity` and `verify`.
    FixtureRunner,
    /// Somebody's activations.
    Qwen3Verify,
    /// `diff`.
    Xtask,
}

impl Program {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::FixtureRunner => "fixture-runner",
            Self::Qwen3Verify => "qwen3-verify",
            Self::Xtask => "xtask",
        }
    }

    /// What its error line begins with.
    pub fn error_prefix(self) -> &'static str {
        match self {
            Self::Xtask => "xtask: ",
            Self::Qwen3 | Self::FixtureRunner | Self::Qwen3Verify => "error: ",
        }
    }
}

/// Where the programs are; those that are not there are not tested.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// The `qwen3` command.
    pub qwen3: Option<PathBuf>,
    /// The fixture runner.
    pub fixture_runner: Option<PathBuf>,
    /// The verifier without backends.
    pub qwen3_verify: Option<PathBuf>,
    /// xtask.
    pub xtask: Option<PathBuf>,
}

impl Programs {
    /// The program's executable.
    pub fn path(&self, program: Program) -> Option<&PathBuf> {
        match program {
            Program::Qwen3 => self.qwen3.as_ref(),
            Program::FixtureRunner => self.fixture_runner.as_ref(),
            Program::Qwen3Verify => self.qwen3_verify.as_ref(),
            Program::Xtask => self.xtask.as_ref(),
        }
    }
}
