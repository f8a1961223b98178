//! What each step of an observed run should have given, from what was observed before it.

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{FINAL_NORM, Site, Tap};
use qwen3_trace::{Precision, Reference, Scope, StepExpectation, Trace};

use crate::Result;
use crate::arithmetic::Arithmetic;
use crate::noise::Noise;
use crate::norms::final_norm;
use crate::probe::run_layer;
use crate::variant::Variant;
use crate::weights::{LayerWeights, head_product};

/// So many implementations have to be tried to know what honest ones are off by.
const ENOUGH: usize = 4;

/// Of each layer in `scope` whose input and output were observed, and of what is behind the last one: what comes out
/// of what was observed to go in, in float64, and what operations in `dtype` are off by there. One layer is in memory at
/// a time. Nothing of a model and a prompt so large that too few implementations can be tried, and nothing where one of
/// those overflows.
///
/// # Errors
/// When a tensor is malformed or a weight cannot be read.
pub(crate) fn step_expectations(
    checkpoint: &Checkpoint,
    reference: &Reference,
    observed: &Trace,
    scope: &Scope,
    dtype: Precision,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<StepExpectation>> {
    let config = checkpoint.config();
    let (right, rows, count) = (Variant::right(config), &reference.rows, config.num_hidden_layers);
    let [batch, seq] = rows.dims();
    let kept = |tap: Tap, values: &[f64]| -> Vec<f64> {
        rows.without_padding(&tap.shape(config, batch, seq), tap.sequence_axis(), values)
    };
    // What is not finite says nothing of the next step.
    let known = |step: usize| -> Result<Option<Vec<f64>>> {
        let site = Site::output(step, count);
        let values = observed.values(&site.to_string())?;
        Ok(values.filter(|values| kept(site.tap, values).iter().all(|value| value.is_finite())))
    };
    let mut noise = Noise::alone(config, rows, seq, dtype).unsure();
    if noise.implementations() < ENOUGH {
        return Ok(Vec::new());
    }
    let mut expected = Vec::new();
    for layer in scope.layers.clone() {
        let (Some(input), Some(_)) = (known(layer)?, known(layer + 1)?) else {
            continue;
        };
        progress(&format!("layer {layer} of {count} from what was observed before it"));
        let weights = LayerWeights::read(checkpoint, layer)?;
        let taps = run_layer(&weights, config, &right, rows, &input, None);
        noise.layer(layer, &weights, &input, &taps);
        expected.push((Site::output(layer + 1, count), taps.get(Tap::LayerOutput).to_vec()));
    }
    if scope.has_end()
        && let Some(input) = known(count)?
    {
        progress("head from what was observed before it");
        let norm = checkpoint.values(FINAL_NORM, &[config.hidden_size])?;
        noise.end(&norm, &input, |x, arithmetic| head_product(checkpoint, x, arithmetic))?;
        if known(count + 1)?.is_some() {
            expected.push((Site::output(count + 1, count), final_norm(&input, &norm, &right)));
        }
        if let (Some(normed), Some(_)) = (known(count + 1)?, known(count + 2)?) {
            let logits = head_product(checkpoint, &normed, Arithmetic::Exact)?;
            expected.push((Site::output(count + 2, count), logits));
        }
    }
    if noise.overflows {
        // Where honest implementations overflow, one that does not says nothing of what others are off by.
        return Ok(Vec::new());
    }
    let expectation = |(site, values): (Site, Vec<f64>)| {
        let key = site.to_string();
        let floors = noise.floors.remove(&key).expect("noise was made of every step");
        StepExpectation { values: kept(site.tap, &values), floors, key }
    };
    Ok(expected.into_iter().map(expectation).collect())
}
