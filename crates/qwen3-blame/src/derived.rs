//! Expectations that the reference does not have.

use std::ops::Deref;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{Site, Tap};
use qwen3_trace::{Recorder, Reference, Trace, TraceError};
use tempfile::TempDir;

use crate::Result;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::LayerWeights;

/// A trace in a temporary folder, which goes with it.
pub struct Derived {
    trace: Trace,
    _folder: TempDir,
}

impl Deref for Derived {
    type Target = Trace;

    fn deref(&self) -> &Trace {
        &self.trace
    }
}

/// What passes through each of `layers`, in float64, when it is given the reference's input; nothing of layers
/// whose input the reference lacks. One layer is in memory at a time.
///
/// # Errors
/// When a weight cannot be read, or a file cannot be written.
pub fn derive(
    checkpoint: &Checkpoint,
    reference: &Reference,
    layers: impl IntoIterator<Item = usize>,
) -> Result<Derived> {
    let temporary = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(|error| TraceError::write(&temporary, error))?;
    let config = checkpoint.config();
    let right = Variant::right(config);
    let recorder = Recorder::create(folder.path())?;
    let [batch, seq] = reference.rows.dims();
    for layer in layers {
        let input = Site::output(layer, config.num_hidden_layers).to_string();
        let Some(input) = reference.trace.values(&input)? else {
            continue;
        };
        let weights = LayerWeights::read(checkpoint, layer)?;
        let taps = run_layer(&weights, config, &right, &reference.rows, &input, None);
        let tensors = Tap::of_layer().filter(|tap| *tap != Tap::LayerOutput).map(|tap| {
            let values = taps.get(tap).iter().map(|value| *value as f32);
            let key = Site::inside(layer, tap).to_string();
            (key, tap.shape(config, batch, seq), values.collect())
        });
        recorder.write(tensors.collect())?;
    }
    Ok(Derived { trace: Trace::recorded(folder.path(), ""), _folder: folder })
}
