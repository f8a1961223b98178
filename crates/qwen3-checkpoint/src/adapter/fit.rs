//! Is an adapter one for a model?

use std::path::Path;

use qwen3_config::{ConfigError, Qwen3Config};

use super::key::{AdapterKey, Half};
use super::target::is_name_of;
use super::{AdapterConfig, CONFIG, Pair, Target, TargetModules, WEIGHTS};
use crate::CheckpointError;

/// No model has more layers; a config may say so.
const MOST_LAYERS: usize = 1 << 16;

/// Checks that the `pairs` in `folder` all fit a module of a model of `model` that `config` names, and that there is a
/// pair for each of those.
pub(super) fn check(
    folder: &Path,
    config: &AdapterConfig,
    pairs: &[Pair],
    model: &Qwen3Config,
) -> Result<(), CheckpointError> {
    let weights = folder.join(WEIGHTS);
    if pairs.is_empty() {
        let reason = "no tensor of an adapter is in it".into();
        return Err(CheckpointError::Malformed { file: weights, reason });
    }
    let layers = model.num_hidden_layers;
    for Pair { layer, target, keys, shapes } in pairs {
        let stray = |expected: String| CheckpointError::NoSuchModule {
            file: weights.clone(),
            key: keys[0].clone(),
            found: target.module(*layer),
            expected,
        };
        if *layer >= layers {
            return Err(stray(format!("layers 0 to {}", layers - 1)));
        }
        let there = target.shape(model, *layer);
        let [out, input] = there.ok_or_else(|| stray(format!("one of {}", names(model, *layer))))?;
        if !changes(config, *layer, *target) {
            return Err(stray("a module that target_modules names".into()));
        }
        let expected = [[config.rank, input], [out, config.rank]];
        for ((key, found), expected) in keys.iter().zip(shapes).zip(expected) {
            if *found != expected {
                return Err(CheckpointError::Shape {
                    file: weights,
                    key: key.clone(),
                    expected: expected.into(),
                    found: found.to_vec(),
                });
            }
        }
    }
    check_targets(folder, config, pairs, model)
}

/// Checks that the model has every target, and the adapter a pair for every target.
fn check_targets(
    folder: &Path,
    config: &AdapterConfig,
    pairs: &[Pair],
    model: &Qwen3Config,
) -> Result<(), CheckpointError> {
    let layers = model.num_hidden_layers.min(MOST_LAYERS);
    let modules = || {
        let all = (0..layers).flat_map(|layer| Target::ALL.map(|target| (layer, target)));
        all.filter(|(layer, target)| target.shape(model, *layer).is_some())
    };
    if let TargetModules::Names(targets) = &config.targets {
        for name in targets {
            if !modules().any(|(layer, target)| is_name_of(name, &target.module(layer))) {
                return Err(CheckpointError::Config {
                    file: folder.join(CONFIG),
                    source: ConfigError::Invalid {
                        field: "target_modules".into(),
                        found: format!("{name:?}"),
                        expected: format!("linear maps of the model's layers: {}", names(model, 0)),
                    },
                });
            }
        }
    }
    let known = |layer, target| pairs.iter().any(|pair| (pair.layer, pair.target) == (layer, target));
    match modules().find(|(layer, target)| changes(config, *layer, *target) && !known(*layer, *target)) {
        Some((layer, target)) => {
            let key = AdapterKey { layer, target, half: Half::A }.spelled();
            Err(CheckpointError::MissingKey { file: folder.join(WEIGHTS), key })
        }
        None => Ok(()),
    }
}

/// Does the config say that the adapter changes this module?
fn changes(config: &AdapterConfig, layer: usize, target: Target) -> bool {
    let AdapterConfig { targets, excluded, .. } = config;
    targets.contains(layer, target) && !excluded.as_ref().is_some_and(|not| not.contains(layer, target))
}

/// The names of a layer's linear maps that may have an adapter.
fn names(model: &Qwen3Config, layer: usize) -> String {
    let there = Target::ALL.into_iter().filter(|target| target.shape(model, layer).is_some());
    let names: Vec<_> = there.map(Target::name).collect();
    names.join(", ")
}
