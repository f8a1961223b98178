//! Limits for a checkpoint and a reference.

use std::ops::Range;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{FINAL_NORM, Qwen3Config, Site, Tap};
use qwen3_trace::{Limits, Precision, Reference, Scope, TokenFloors};

use crate::Result;
use crate::decoding::continued;
use crate::derived::{Derived, derive};
use crate::noise::Noise;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::{LayerWeights, embedding_rows, head_product};

/// Whole runs of so many products are tried whether the reference's floors leave a doubt or not: a stored floor is that
/// of a few runs, which may have been lucky.
const CHEAP: usize = 1 << 31;

/// How far runs in `dtype` may be off in `scope`: by the reference's own floors, and by what honest runs of this
/// model are off by, which are tried here. Also what the reference does not say of its layers.
///
/// # Errors
/// When a tensor or a weight cannot be read, or a floor of the reference cannot be true.
pub fn calibrate(
    checkpoint: &Checkpoint,
    reference: &Reference,
    scope: &Scope,
    dtype: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<(Limits, Derived)> {
    let limits = Limits::new(reference, dtype, scope.of)?;
    let derived = derive(checkpoint, reference, scope.layers.clone(), dtype, progress)?;
    let limits = limits.with_alone(derived.floors.clone());
    let [batch, seq] = reference.rows.dims();
    let cheap =
        products(checkpoint.config(), scope.layers.clone()) * batch * (seq + reference.steps()) <= CHEAP;
    let limits = if cheap || limits.need_whole_runs(reference)? {
        limits.with_through(whole_runs(checkpoint, reference, scope.layers.clone(), dtype, progress)?)
    } else {
        limits
    };
    limits.check_stored(reference)?;
    Ok((limits, derived))
}

/// How many products a token takes in `layers`.
pub fn products(config: &Qwen3Config, layers: Range<usize>) -> usize {
    layers.map(|layer| config.layer_active_parameters(layer)).sum()
}

/// What honest runs in `dtype` are off by that go through `layers` without being put right, and through the steps
/// behind the prompt, if these are all layers.
fn whole_runs(
    checkpoint: &Checkpoint,
    reference: &Reference,
    layers: Range<usize>,
    dtype: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<TokenFloors> {
    let config = checkpoint.config();
    let (right, count, seq) = (Variant::right(config), config.num_hidden_layers, reference.rows.dims()[1]);
    let given = match layers.start {
        0 => None,
        start => reference.trace.values(&Site::output(start, count).to_string())?,
    };
    let first = if given.is_some() { layers.start } else { 0 };
    let (rows, mut x) = match given {
        Some(x) => (reference.rows.clone(), x),
        None => {
            let steps = reference.steps().max(1);
            let rows = continued(&reference.rows, steps);
            let ids = reference.continued_ids(&reference.generated, steps);
            (rows, embedding_rows(checkpoint, &ids)?)
        }
    };
    let mut noise = Noise::alone(config, &rows, seq, dtype).through(&x);
    for layer in first..layers.end {
        progress(&format!("honest runs in {dtype}, layer {layer} of {count}"));
        let weights = LayerWeights::read(checkpoint, layer)?;
        let taps = run_layer(&weights, config, &right, &rows, &x, None);
        noise.layer(layer, &weights, &x, &taps);
        x = taps.get(Tap::LayerOutput).to_vec();
    }
    if layers.end == count {
        progress(&format!("honest runs in {dtype}, head"));
        let norm = checkpoint.values(FINAL_NORM, &[config.hidden_size])?;
        noise.end(&norm, &x, |x, arithmetic| head_product(checkpoint, x, arithmetic))?;
    }
    Ok(noise.floors)
}
