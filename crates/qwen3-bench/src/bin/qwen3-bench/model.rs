//! The model that is measured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use qwen3_command::{BenchArgs, BenchSizes, child};
use qwen3_config::{Precision, Qwen3Config};
use qwen3_report::bench::ModelFacts;
use serde::Deserialize;

use crate::{Programs, synthetic};

/// A model and what is known of it before it is loaded.
pub struct Model {
    /// Its folder, or its record.
    pub path: PathBuf,
    /// What the report says of it.
    pub facts: ModelFacts,
    /// Its architecture.
    pub config: Qwen3Config,
    memory: BTreeMap<String, Memory>,
}

/// What `qwen3 inspect --json` says, as far as it is needed.
#[derive(Deserialize)]
struct Inspected {
    config: serde_json::Value,
    parameters: usize,
    memory: BTreeMap<String, Memory>,
}

/// Bytes in one dtype.
#[derive(Deserialize)]
struct Memory {
    weights: usize,
    cache_per_token: usize,
}

impl Model {
    /// The model that the arguments name, made when it is one of random weights that is not there yet.
    ///
    /// # Errors
    /// When it is not sound, or cannot be made.
    pub fn open(args: &BenchArgs, programs: &Programs) -> Result<Self> {
        let (path, name) = match (args.shape(), &args.model) {
            (Some(shape), _) => (synthetic::folder(shape, &programs.work)?, format!("synthetic {shape}")),
            (None, Some(path)) => (path.clone(), path.display().to_string()),
            (None, None) => unreachable!("a shape stands for no model"),
        };
        let mut inspect = Command::new(&programs.qwen3);
        inspect.args(["inspect", "--json", "--model"]).arg(&path);
        let output = child::output(&mut inspect)
            .with_context(|| format!("{} cannot be started", programs.qwen3.display()))?;
        if !output.status.success() {
            // It has said why.
            bail!("{} cannot be measured", path.display());
        }
        let inspected: Inspected = serde_json::from_slice(&output.stdout).context("qwen3 inspect")?;
        let config = Qwen3Config::from_json(&inspected.config.to_string())?;
        let facts = ModelFacts { name, parameters: inspected.parameters };
        Ok(Self { path, facts, config, memory: inspected.memory })
    }

    /// Bytes that the weights and the largest cache of a run in `dtype` take.
    pub fn bytes(&self, dtype: Precision, sizes: &BenchSizes) -> f64 {
        let Some(memory) = self.memory.get(dtype.name()) else { return 0.0 };
        let largest = |list: &[usize]| list.iter().copied().max().unwrap_or(0);
        let first = sizes.context.first().copied().unwrap_or(0);
        let side_by_side = (first + sizes.generate).saturating_mul(largest(&sizes.batch));
        let longest = largest(&sizes.prompt).max(largest(&sizes.context) + sizes.generate);
        let tokens = longest.min(self.config.max_tokens()).max(side_by_side);
        memory.weights as f64 + memory.cache_per_token as f64 * tokens as f64
    }
}
