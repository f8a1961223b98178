//! What passes through a model on Burn, as a file that `verify --observed` reads: of this project's model through an
//! [`Observer`], of any other by a line for each tensor.
//!
//! ```
//! # #[cfg(feature = "flex")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("mine.safetensors");
//! use burn::tensor::{DType, Device, Tensor};
//! use qwen3_model::{Logits, Qwen3, Qwen3Config, RandomWeights, Session, SessionOptions, Taps};
//! use qwen3_trace_burn::BurnTrace;
//! let mut trace = BurnTrace::new(&file);
//! // This project's model: everything that can be seen.
//! let model = Qwen3::build(&mut RandomWeights::new(1, &Device::flex(), DType::F32), &Qwen3Config::tiny())?;
//! let mut session = Session::new(&model, SessionOptions { capacity: 32, ..Default::default() })?;
//! session.prefill_with(&[[1, 2, 3]], Logits::All, &mut Taps::new(&mut trace))?;
//! trace.next_step();
//! session.step_with(&[4], &mut Taps::new(&mut trace))?;
//! // Any other: what it has, under the names that verify knows.
//! trace.record("layer_07_output", &Tensor::<3>::zeros([1, 1, 64], &Device::flex()));
//! trace.write()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "flex"))]
//! # fn main() {}
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

use std::path::Path;

use burn::tensor::Tensor;
use qwen3_model::{Observed, Observer, Site};
use qwen3_trace::{TraceError, TraceWriter};

/// Collects tensors of a model on Burn, each copied off its device when it is seen.
#[derive(Debug)]
pub struct BurnTrace {
    writer: TraceWriter,
    /// The first thing that went wrong, told when the file is written: an observer cannot fail.
    problem: Option<TraceError>,
}

impl BurnTrace {
    /// Nothing yet, to be written to `file`, a `.safetensors`.
    pub fn new(file: impl AsRef<Path>) -> Self {
        Self { writer: TraceWriter::new(file), problem: None }
    }

    /// What follows is of the next pass: the one that reads the next token, with those before it in a cache.
    pub fn next_step(&mut self) {
        self.writer.next_step();
    }

    /// Takes a tensor under a name that `verify` knows: the reference's (`layer_00_output`, `layer_00.self_attn.q_proj`,
    /// `logits`), a module's path, or one that `--names` maps. Of any float dtype, as f32; copied off the device now.
    pub fn record<const D: usize>(&mut self, name: &str, value: &Tensor<D>) {
        let (shape, values) = copied(value);
        let inserted = self.writer.insert(name, &shape, values);
        self.keep(inserted);
    }

    /// Writes the file: to one beside it, which then gets its name.
    ///
    /// # Errors
    /// When that fails, or the first error of what was recorded: a name twice in one pass.
    pub fn write(self) -> Result<(), TraceError> {
        match self.problem {
            Some(problem) => Err(problem),
            None => self.writer.write(),
        }
    }

    fn keep(&mut self, result: Result<(), TraceError>) {
        if let Err(error) = result {
            self.problem.get_or_insert(error);
        }
    }
}

/// Chunks of a prompt are put together.
impl Observer for BurnTrace {
    fn observe(&mut self, site: Site, value: Observed) {
        let (shape, values) = match &value {
            Observed::Rank3(value) => copied(value),
            Observed::Rank4(value) => copied(value),
        };
        let axis = site.tap.sequence_axis();
        let appended = self.writer.append(&site.to_string(), &shape, values, axis);
        self.keep(appended);
    }
}

/// A tensor's shape and values. They are converted at once: on wgpu the next read overwrites what was read.
fn copied<const D: usize>(value: &Tensor<D>) -> (Vec<usize>, Vec<f32>) {
    let data = value.to_data();
    (value.dims().to_vec(), data.iter::<f32>().collect())
}
