//! All of a checkpoint beside the original.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use qwen3_checkpoint::CheckpointError;
use qwen3_report::doctor::{Ailment, Finding, Health, TensorHealth};
use rayon::prelude::*;

use crate::configs::configs;
use crate::groups::{finding, grouped};
use crate::head::head;
use crate::sample::Samples;
use crate::source::Source;
use crate::tensor::{Look, Tensor};

/// Tensors with more values are looked at one after the other, so that no more than two are in memory.
const LARGE: usize = 32 << 20;

/// What was found.
pub struct Examined {
    /// Every tensor, in the order of a model.
    pub tensors: Vec<TensorHealth>,
    /// What happened to those that are not right.
    pub findings: Vec<Finding>,
    /// Values that were compared.
    pub values: usize,
}

/// Compares every tensor of `model` with `original`; `say` is told what is looked at.
///
/// # Errors
/// When the original cannot be read.
pub fn examine(model: &Source, original: &Source, say: &(dyn Fn(&str) + Sync)) -> Result<Examined> {
    let order = order(model, original);
    let (looks, samples) = looks(model, original, &order, say)?;
    let mut tensors: Vec<TensorHealth> =
        order.iter().map(|key| health(model, original, key, &looks)).collect();
    let right: BTreeSet<String> = tensors
        .iter()
        .filter(|tensor| tensor.health != Health::Wrong)
        .map(|tensor| tensor.name.clone())
        .collect();

    let mut findings = Vec::new();
    let head = head(model, original)?;
    for (number, key) in order.iter().enumerate() {
        if right.contains(key) || head.iter().any(|head| head.tensors.contains(key)) {
            continue;
        }
        say(&format!("looking into {key}, {} of {}", number + 1, order.len()));
        match (looks.get(key), original.tensors().contains_key(key)) {
            (Some(Look { unreadable: Some(reason), .. }), _) => {
                findings.push(finding(Ailment::Unreadable, key, reason.clone()));
            }
            (Some(_), _) => {
                let mut tensor = read(model, original, key)?;
                let of = |other: &str| original.values(other);
                findings.extend(tensor.examine(original.config(), &samples, of)?);
            }
            (None, true) => {
                findings.push(finding(Ailment::Missing, key, format!("{key} is not in the files")))
            }
            (None, false) => findings.push(unexpected(model, original, key, &samples)?),
        }
    }
    let mut findings = grouped(findings, original.config(), &right);
    findings.extend(configs(model.config(), original.config()));
    findings.extend(head);
    for tensor in &mut tensors {
        let of_it = || findings.iter().filter(|finding| finding.tensors.contains(&tensor.name));
        let (ailments, worst) =
            (of_it().map(|finding| finding.id).collect(), of_it().map(|finding| finding.health).max());
        tensor.findings = ailments;
        tensor.health = match (worst, tensor.health) {
            (Some(worst), _) => worst,
            (None, Health::Wrong) => Health::Precision,
            (None, health) => health,
        };
    }
    let compared = order.iter().filter(|key| looks.contains_key(*key));
    let values = compared.map(|key| model.tensors()[key].values()).sum();
    Ok(Examined { tensors, findings, values })
}

/// The keys of both: those of a model in its order, then whatever else there is.
fn order(model: &Source, original: &Source) -> Vec<String> {
    let there = |key: &String| model.tensors().contains_key(key) || original.tensors().contains_key(key);
    let mut order: Vec<String> = original.config().weights().map(|weight| weight.key).filter(there).collect();
    let known: BTreeSet<String> = order.iter().cloned().collect();
    let others: BTreeSet<&String> = model.tensors().keys().chain(original.tensors().keys()).collect();
    order.extend(others.into_iter().filter(|key| !known.contains(*key)).cloned());
    order
}

/// A tensor of both.
fn read<'a>(model: &'a Source, original: &'a Source, key: &'a str) -> Result<Tensor<'a>, CheckpointError> {
    let (ours, theirs) = (&model.tensors()[key], &original.tensors()[key]);
    Ok(Tensor {
        key,
        found: model.values(key)?,
        shape: &ours.shape,
        encoding: &ours.encoding,
        expected: original.values(key)?,
        expected_shape: &theirs.shape,
    })
}

/// A look at every tensor of both, and samples of the original's.
fn looks(
    model: &Source,
    original: &Source,
    order: &[String],
    say: &(dyn Fn(&str) + Sync),
) -> Result<(BTreeMap<String, Look>, Samples), CheckpointError> {
    type One<'a> = (&'a String, Option<Look>, Option<Vec<f32>>);
    let one = |key: &'_ String| -> Result<(Option<Look>, Option<Vec<f32>>), CheckpointError> {
        say(&format!("comparing {key}"));
        let Some(theirs) = original.tensors().get(key) else { return Ok((None, None)) };
        let expected = original.values(key)?;
        let sample = Samples::of(&expected);
        let Some(ours) = model.tensors().get(key) else { return Ok((None, Some(sample))) };
        let look = match model.values(key) {
            Err(error) => Look { unreadable: Some(error.to_string()), ..Look::default() },
            Ok(found) => {
                let (shape, expected_shape) = (&ours.shape, &theirs.shape);
                Tensor { key, found, shape, encoding: &ours.encoding, expected, expected_shape }.look()
            }
        };
        Ok((Some(look), Some(sample)))
    };
    let size = |key: &String| original.tensors().get(key).map_or(0, |tensor| tensor.values());
    let (large, small): (Vec<&String>, Vec<&String>) = order.iter().partition(|key| size(key) > LARGE);
    let with_key = |key| one(key).map(|(look, sample)| (key, look, sample));
    let mut done: Vec<One> = small.into_par_iter().map(with_key).collect::<Result<_, _>>()?;
    for key in large {
        done.push(with_key(key)?);
    }
    let (mut looks, mut samples) = (BTreeMap::new(), Samples::default());
    for (key, look, sample) in done {
        if let Some(sample) = sample {
            samples.insert(key, &original.tensors()[key].shape, sample);
        }
        looks.extend(look.map(|look| (key.clone(), look)));
    }
    Ok((looks, samples))
}

fn health(model: &Source, original: &Source, key: &str, looks: &BTreeMap<String, Look>) -> TensorHealth {
    let (ours, theirs) = (model.tensors().get(key), original.tensors().get(key));
    let look = looks.get(key);
    TensorHealth {
        name: key.into(),
        health: look.and_then(|look| look.health).unwrap_or(Health::Wrong),
        dtype: ours.map(|tensor| tensor.encoding.to_string()),
        original_dtype: theirs.map(|tensor| tensor.encoding.to_string()),
        shape: ours.map(|tensor| tensor.shape.clone()),
        max_abs: look.and_then(|look| look.max_abs),
        relative: look.and_then(|look| look.relative),
        through: look.and_then(|look| look.through.clone()),
        findings: Vec::new(),
    }
}

/// A tensor that the original does not have, and which of the original's it is.
fn unexpected(
    model: &Source,
    original: &Source,
    key: &str,
    samples: &Samples,
) -> Result<Finding, CheckpointError> {
    let ours = &model.tensors()[key];
    let unknown =
        finding(Ailment::Unexpected, key, format!("{key} is in the files, and the original has none"));
    let Ok(found) = model.values(key) else { return Ok(unknown) };
    for other in samples.like(key, &ours.shape, &found) {
        let expected = original.values(other)?;
        if crate::formats::agreement(&found, &expected, ours.columns(), &ours.encoding).is_some() {
            let explanation = format!("{key} holds the values of {other}: it has another name here");
            return Ok(Finding {
                with: vec![other.into()],
                ..finding(Ailment::Unexpected, key, explanation)
            });
        }
    }
    Ok(unknown)
}
