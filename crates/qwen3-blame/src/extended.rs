//! Cached steps as more tokens of the prompt: what they should give follows from all tokens at once.

use std::collections::BTreeMap;

use qwen3_checkpoint::Checkpoint;
use qwen3_config::{FINAL_NORM, Qwen3Config, Site, Tap};
use qwen3_trace::{Array, Judge, Mode, Reference, Scope, StepVerdict, Trace, Values};

use crate::decoding::{continued, generated};
use crate::examine::ExamineOptions;
use crate::norms::final_norm;
use crate::probe::run_layer;
use crate::steps::step_expectations;
use crate::variant::Variant;
use crate::weights::{LayerWeights, embedding_rows, head_product};
use crate::{Blame, Diagnosis, Divergence, Result, calibrate, diagnose};

/// A prompt with the steps behind it.
struct Extended {
    /// What should come out of all of them.
    reference: Reference,
    /// What did, where the steps were observed; what should, where the prompt was not.
    observed: Trace,
    /// How many steps, and the number of the first of them.
    steps: usize,
    first: usize,
}

/// What was found of cached steps.
pub(crate) struct Steps {
    /// Of each tensor, the first step that is beyond its limit, or the one nearest to it.
    pub(crate) verdicts: Vec<StepVerdict>,
    /// Where and why they go wrong, if the prompt does not.
    pub(crate) diagnosis: Diagnosis,
}

/// Judges the tensors of cached steps, and explains those that differ when `prompt_passes`; `None` when there are none, or
/// it is not known which tokens they read.
///
/// # Errors
/// When a tensor is malformed or a weight cannot be read.
pub(crate) fn examine_steps(
    checkpoint: &Checkpoint,
    reference: &Reference,
    observed: &Trace,
    options: &mut ExamineOptions,
    prompt_passes: bool,
) -> Result<Option<Steps>> {
    let Some(extended) = extend(checkpoint, reference, observed, options.progress)? else {
        return Ok(None);
    };
    let (config, dtype) = (checkpoint.config(), options.dtype);
    let scope = Scope::whole(config.num_hidden_layers);
    let (limits, derived) = calibrate(checkpoint, &extended.reference, &scope, dtype, options.progress)?;
    let judge =
        Judge::new(&extended.reference, config, &limits, options.preset).with_tolerance(options.tolerance);
    let mut all = judge.observed(&extended.observed, Some(&derived))?;
    if dtype != qwen3_trace::Precision::F32 && options.preset.is_none() && options.tolerance.is_none() {
        let (reference, observed) = (&extended.reference, &extended.observed);
        let expected = step_expectations(checkpoint, reference, observed, &scope, dtype, options.progress)?;
        judge.steps(observed, &expected, &mut all.tensors)?;
    }
    let [_, seq] = reference.rows.dims();
    let mut verdicts = Vec::new();
    for verdict in all.of(Mode::Accumulated) {
        let key = &verdict.verdict.name;
        let site: Site = key.parse().expect("tensors of a model are judged");
        let found = extended.observed.values(key)?.expect("it was judged");
        let expected = match extended.reference.trace.values(key)? {
            Some(expected) => expected,
            None => continue,
        };
        let ratio = |step: usize| {
            judge.ratio(site, &expected, &only(site, config, &extended, &found, &expected, seq + step))
        };
        let ratios: Vec<f64> = (0..extended.steps).map(ratio).collect();
        let worst = (0..ratios.len()).max_by(|a, b| ratios[*a].total_cmp(&ratios[*b])).unwrap_or(0);
        let step = ratios.iter().position(|ratio| ratio.is_nan() || *ratio > 1.0).unwrap_or(worst);
        verdicts.push(StepVerdict {
            tensor: format!("step_{:03}.{key}", extended.first + step),
            step: extended.first + step,
            ratio: ratios[worst],
            pass: ratios.iter().all(|ratio| *ratio <= 1.0),
        });
    }
    let mut diagnosis = Diagnosis::default();
    let first = verdicts.iter().filter(|verdict| !verdict.pass).min_by_key(|verdict| verdict.step);
    if let Some(first) = first.filter(|_| prompt_passes) {
        diagnosis = diagnose(Blame {
            checkpoint,
            reference: &extended.reference,
            derived: Some(&derived),
            observed: &extended.observed,
            verdicts: &all,
            limits: &limits,
            scope,
            mode: Mode::Accumulated,
            time: options.diagnose_for,
            prompt: Some(seq),
            progress: options.progress,
        })?;
        let layer = first
            .tensor
            .split_once('.')
            .and_then(|(_, key)| key.parse::<Site>().ok())
            .and_then(|site| site.layer);
        diagnosis.first_divergence = Some(Divergence { layer, tensor: first.tensor.clone() });
    }
    Ok(Some(Steps { verdicts, diagnosis }))
}

/// `expected`, but for what was found of one token of each row.
fn only(
    site: Site,
    config: &Qwen3Config,
    extended: &Extended,
    found: &[f64],
    expected: &[f64],
    token: usize,
) -> Vec<f64> {
    let [batch, seq] = extended.reference.rows.dims();
    let (shape, axis) = (site.tap.shape(config, batch, seq), site.tap.sequence_axis());
    let of_token = |index| qwen3_config::Rows::token_of(&shape, axis, index)[1] == token;
    let pairs = found.iter().zip(expected).enumerate();
    pairs.map(|(index, (found, expected))| if of_token(index) { *found } else { *expected }).collect()
}

/// Prompt and steps of an observed run.
fn extend(
    checkpoint: &Checkpoint,
    reference: &Reference,
    observed: &Trace,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<Extended>> {
    let config = checkpoint.config();
    let numbers = observed.steps(config);
    // Whoever counts passes begins with 0, whoever counts tokens with 1: the prompt gives the first.
    let first = numbers.first().copied().unwrap_or(1).min(1);
    let followed = generated(observed, reference, config.vocab_size)?;
    let followed = followed.as_ref().unwrap_or(&reference.generated);
    let known = followed.iter().map(Vec::len).min().unwrap_or(0);
    let steps = (first..).zip(&numbers).take_while(|(wanted, found)| wanted == *found).count().min(known);
    if steps == 0 {
        return Ok(None);
    }
    let rows = continued(&reference.rows, steps + 1);
    let ids = reference.continued_ids(followed, steps + 1);
    let [batch, seq] = reference.rows.dims();
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    let mut keep = |site: Site, values: &[f64]| -> Result<()> {
        let key = site.to_string();
        let shape = site.tap.shape(config, batch, seq + steps);
        let mut parts = Vec::new();
        for step in first..first + steps {
            let name = format!("step_{step:03}.{key}");
            observed.check_shape(&name, &site.tap.shape(config, batch, 1))?;
            parts.extend(observed.values(&name)?);
        }
        if parts.len() == steps {
            let prompt = match observed.values(&key)? {
                Some(prompt) => prompt,
                None => cut(values, &shape, site.tap.sequence_axis(), seq),
            };
            let mut joined =
                join(prompt, parts, site.tap.sequence_axis(), &site.tap.shape(config, batch, seq));
            // Padding that was not recorded may be seen all the same.
            if site.tap.sequence_axis() == 1 {
                let width = joined.len() / (batch * (seq + steps));
                let tokens = joined.chunks_mut(width).zip(values.chunks(width)).zip(rows.visible.concat());
                for ((found, expected), seen) in tokens {
                    if !seen && found.iter().all(|value| *value == 0.0) {
                        found.copy_from_slice(expected);
                    }
                }
            }
            found.insert(key.clone(), array(shape.clone(), &joined));
        }
        if parts_are_needed(site) || found.contains_key(&key) {
            expected.insert(key, array(shape, values));
        }
        Ok(())
    };
    let right = Variant::right(config).behind(seq);
    let mut x = embedding_rows(checkpoint, &ids)?;
    keep(Site::outside(Tap::Embedding), &x)?;
    for layer in 0..config.num_hidden_layers {
        progress(&format!("layer {layer} of {} in float64, cached steps included", config.num_hidden_layers));
        let weights = LayerWeights::read(checkpoint, layer)?;
        let taps = run_layer(&weights, config, &right, &rows, &x, None);
        for tap in Tap::of_kind(config.layer(layer).feed_forward) {
            keep(Site::inside(layer, tap), taps.get(tap))?;
        }
        x = taps.get(Tap::LayerOutput).to_vec();
    }
    let norm = checkpoint.values(FINAL_NORM, &[config.hidden_size])?;
    let normed = final_norm(&x, &norm, &right);
    keep(Site::outside(Tap::FinalNorm), &normed)?;
    let logits = Site::outside(Tap::Logits);
    if observed.has(&format!("step_{first:03}.{logits}"))? {
        keep(logits, &head_product(checkpoint, &normed, right.arithmetic)?)?;
    }
    if found.is_empty() {
        return Ok(None);
    }
    let path = observed.path();
    let sites =
        expected.keys().filter_map(|key| key.parse::<Site>().ok()).collect::<std::collections::BTreeSet<_>>();
    let reference = Reference {
        trace: Trace::in_memory(reference.trace.path(), expected),
        sites: sites.into_iter().collect(),
        ids: ids.chunks(seq + steps).map(<[u32]>::to_vec).collect(),
        rows,
        generated: vec![Vec::new(); batch],
        margins: None,
        test_input: reference.test_input.clone(),
    };
    Ok(Some(Extended { reference, observed: Trace::in_memory(path, found), steps, first }))
}

/// Is a tensor what the next layer is computed from?
fn parts_are_needed(site: Site) -> bool {
    !site.is_inner() && site.tap != Tap::Logits
}

fn array(shape: Vec<usize>, values: &[f64]) -> Array {
    Array { shape, values: Values::Float(values.iter().map(|value| *value as f32).collect()) }
}

/// The first `length` of a tensor of `shape` along an axis.
fn cut(values: &[f64], shape: &[usize], axis: usize, length: usize) -> Vec<f64> {
    let inner: usize = shape[axis + 1..].iter().product();
    values.chunks(shape[axis] * inner).flat_map(|part| &part[..length * inner]).copied().collect()
}

/// Tensors one behind the other along an axis: a prompt's, of `shape`, and those of steps, of one token each.
fn join(prompt: Vec<f64>, steps: Vec<Vec<f64>>, axis: usize, shape: &[usize]) -> Vec<f64> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut joined = Vec::new();
    for part in 0..outer {
        joined.extend_from_slice(&prompt[part * shape[axis] * inner..(part + 1) * shape[axis] * inner]);
        steps.iter().for_each(|step| joined.extend_from_slice(&step[part * inner..(part + 1) * inner]));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As keys with the whole cache are, of which one is of the step.
    #[test]
    fn a_step_is_of_one_token() {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let checkpoint = Checkpoint::open(fixtures.join("checkpoints/gqa-tied")).unwrap();
        let file = fixtures.join("gqa-tied/prompt1/reference.npz");
        let reference = Reference::open(&file, checkpoint.config(), true).unwrap();
        let key = "step_001.layer_00.self_attn.k_rope";
        let extend = |tokens: usize| {
            let shape = Tap::KRope.shape(checkpoint.config(), 1, tokens);
            let values = Values::Float(vec![0.0; shape.iter().product()]);
            let tensors = BTreeMap::from([(key.to_string(), Array { shape, values })]);
            let observed = Trace::in_memory("mine.npz".as_ref(), tensors);
            extend(&checkpoint, &reference, &observed, &mut |_| {}).map(|extended| extended.is_some())
        };
        assert!(extend(1).unwrap());
        assert!(extend(2).unwrap_err().to_string().contains(key));
    }

    #[test]
    fn steps_stand_behind_the_prompt() {
        let count = |from: usize, length: usize| (from..from + length).map(|x| x as f64).collect::<Vec<_>>();
        // [2, 3, 2] and two steps of [2, 1, 2].
        let joined = join(count(0, 12), vec![count(100, 4), count(200, 4)], 1, &[2, 3, 2]);
        assert_eq!(joined[..10], [0., 1., 2., 3., 4., 5., 100., 101., 200., 201.]);
        assert_eq!(joined[10..], [6., 7., 8., 9., 10., 11., 102., 103., 202., 203.]);
        assert_eq!(cut(&joined, &[2, 5, 2], 1, 3), count(0, 12));
        // Heads first.
        let joined = join(count(0, 8), vec![count(100, 4)], 2, &[1, 2, 2, 2]);
        assert_eq!(joined, [0., 1., 2., 3., 100., 101., 4., 5., 6., 7., 102., 103.]);
    }
}
