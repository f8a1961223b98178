//! What a process that runs the model is told, and what it says.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Switches};
use crate::manifest::TestDType;

/// How a layer gets its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
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
    /// The name in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accumulated => "accumulated",
            Self::Isolated => "isolated",
            Self::Patched => "patched",
        }
    }
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Job {
    /// The checkpoint.
    #[arg(long)]
    pub model: PathBuf,
    /// The reference.
    #[arg(long)]
    pub reference: PathBuf,
    /// The backend.
    #[arg(long)]
    pub backend: Backend,
    /// The dtype.
    #[arg(long)]
    pub dtype: TestDType,
    /// The modes.
    #[arg(long, value_delimiter = ',')]
    pub mode: Vec<Mode>,
    /// The first layer.
    #[arg(long)]
    pub first: usize,
    /// The layer after the last.
    #[arg(long)]
    pub end: usize,
    /// The folder to write the activations to.
    #[arg(long)]
    pub out: PathBuf,
}

/// What the process says on standard output, one JSON value a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It goes on.
    Progress(String),
    /// The backend, or the dtype on it, cannot be used here.
    Unavailable(String),
    /// The input is bad.
    BadInput(String),
    /// The activations are written.
    Done(Done),
}

/// How a run went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Wall time of loading and computing, in milliseconds.
    pub elapsed_ms: f64,
    /// The process's largest resident set, in MiB, where the system tells.
    pub peak_rss_mb: Option<f64>,
    /// Fusion and autotune, where the backend has them.
    pub switches: Option<Switches>,
    /// How long each part took, in the order of computation.
    pub timings: Vec<Timing>,
}

/// The wall time of one part of the model, in all modes together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// `embedding`, `layer_03` or `head`.
    pub part: String,
    /// Reading the weights and bringing them to the device, in milliseconds.
    pub load_ms: f64,
    /// Computing and reading back, in milliseconds; on wgpu and cuda compiling included.
    pub run_ms: f64,
}

/// Which layers a range such as `3..7`, `3..=6`, `3..`, `..7` or `3` names, of `layers`.
///
/// # Errors
/// When it is no range, empty, or reaches beyond the last layer.
pub fn parse_layers(text: &str, layers: usize) -> Result<Range<usize>> {
    let number = |part: &str, missing: usize| match part {
        "" => Ok(missing),
        part => part.parse::<usize>(),
    };
    let range = match text.split_once("..") {
        None => number(text, layers).map(|one| one..one.saturating_add(1)),
        Some((first, last)) => match last.strip_prefix('=') {
            Some(last) => number(first, 0)
                .and_then(|first| Ok(first..number(last, layers)?.saturating_add(1))),
            None => number(first, 0).and_then(|first| Ok(first..number(last, layers)?)),
        },
    };
    let range = range.with_context(|| format!("--layers {text}: expected A..B, as in 3..7"))?;
    anyhow::ensure!(
        range.start < range.end && range.end <= layers,
        "--layers {text}: not a range of layers within 0..{layers}"
    );
    Ok(range)
}
