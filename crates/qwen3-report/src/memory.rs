//! How much memory a verification needs, and needed.

use qwen3_config::{Precision, Qwen3Config};
use serde::{Deserialize, Serialize};

/// The largest resident set of this process so far in MiB; `None` where the system does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    mebibytes("/proc/self/status", "VmHWM:")
}

/// How much of this process's memory lies in huge pages now, in MiB; `None` where the system does not tell.
pub fn huge_pages_mb() -> Option<f64> {
    mebibytes("/proc/self/smaps_rollup", "AnonHugePages:")
}

fn mebibytes(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

/// The weights of the parts that are in memory one after the other, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The largest resident set of any process, where the system tells.
    pub peak_rss_mb: Option<f64>,
    /// The embedding.
    pub embedding_mb: f64,
    /// One decoder layer, the largest.
    pub layer_mb: f64,
    /// The head.
    pub head_mb: f64,
    /// All weights together, which are never in memory together.
    pub model_mb: f64,
}

impl Memory {
    /// For weights in `dtype`.
    pub fn of(config: &Qwen3Config, dtype: Precision) -> Self {
        let mb = |values: usize| values as f64 * dtype.bytes() as f64 / f64::from(1 << 20);
        let vocabulary = config.vocab_size * config.hidden_size;
        let layers = (0..config.num_hidden_layers).map(|layer| config.layer_parameters(layer));
        Self {
            peak_rss_mb: None,
            embedding_mb: mb(vocabulary),
            layer_mb: mb(layers.max().unwrap_or(0)),
            head_mb: mb(vocabulary),
            model_mb: mb(config.num_parameters()),
        }
    }
}
