//! What the reference does not say of the layers that it has the inputs of.

use std::ops::{Deref, Range};

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{FINAL_NORM, Site, Tap};
use qwen3_trace::{Precision, Recorder, Reference, TokenFloors, Trace, TraceError};
use tempfile::TempDir;

use crate::Result;
use crate::noise::Noise;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::{LayerWeights, embedding_rows, head_product};

/// A trace in a temporary folder, which goes with it.
pub struct Derived {
    trace: Trace,
    /// What honest runs in the dtype are off by in each operation that is given the right input.
    pub floors: TokenFloors,
    _folder: TempDir,
}

impl Deref for Derived {
    type Target = Trace;

    fn deref(&self) -> &Trace {
        &self.trace
    }
}

/// What passes through each of `layers`, in float64, when it is given the reference's input, and what runs in
/// `dtype` are off by there; nothing of layers whose input the reference lacks. Of the embedding and of what is
/// behind the last layer, where they are reached, what runs are off by. One layer is in memory at a time.
///
/// # Errors
/// When a weight cannot be read, or a file cannot be written.
pub fn derive(
    checkpoint: &Checkpoint,
    reference: &Reference,
    layers: Range<usize>,
    dtype: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<Derived> {
    let temporary = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(|error| TraceError::write(&temporary, error))?;
    let config = checkpoint.config();
    let (right, rows, count) = (Variant::right(config), &reference.rows, config.num_hidden_layers);
    let recorder = Recorder::create(folder.path())?;
    let [batch, seq] = rows.dims();
    let input = |step: usize| reference.trace.values(&Site::output(step, count).to_string());
    let mut noise = Noise::alone(config, rows, seq, dtype);
    if layers.start == 0 {
        noise.embedding(&embedding_rows(checkpoint, &reference.flat_ids())?);
    }
    for layer in layers.clone() {
        let Some(input) = input(layer)? else {
            continue;
        };
        progress(&format!("layer {layer} of {count} in float64"));
        let weights = LayerWeights::read(checkpoint, layer)?;
        let taps = run_layer(&weights, config, &right, rows, &input, None);
        noise.layer(layer, &weights, &input, &taps);
        let inner = Tap::of_kind(config.layer(layer).feed_forward).filter(|tap| *tap != Tap::LayerOutput);
        let tensors = inner.map(|tap| {
            let values = taps.get(tap).iter().map(|value| *value as f32);
            let key = Site::inside(layer, tap).to_string();
            (key, tap.shape(config, batch, seq), values.collect())
        });
        recorder.write(tensors.collect())?;
    }
    if layers.end == count
        && let Some(input) = input(count)?
    {
        progress("head in float64");
        let norm = checkpoint.values(FINAL_NORM, &[config.hidden_size])?;
        noise.end(&norm, &input, |x, arithmetic| head_product(checkpoint, x, arithmetic))?;
    }
    Ok(Derived { trace: Trace::recorded(folder.path(), ""), floors: noise.floors, _folder: folder })
}
