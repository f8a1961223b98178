//! What single tensors have in common: exchanges, whole layers, an order of queries and keys.

use std::collections::{BTreeMap, BTreeSet};

use qwen3_config::Qwen3Config;
use qwen3_report::doctor::{Ailment, Finding, Health};

/// Puts findings that each name one tensor together where they are one. `right` are the tensors that are right.
pub fn grouped(findings: Vec<Finding>, config: &Qwen3Config, right: &BTreeSet<String>) -> Vec<Finding> {
    let (holding, others): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.id == Ailment::Stale);
    let holds = holding.into_iter().map(|finding| (finding.tensors[0].clone(), finding.with[0].clone()));
    let mut all = exchanges(holds.collect(), right);
    let (rotary, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|finding| finding.id == Ailment::InterleavedRope);
    all.extend(interleaved(rotary, config, right));
    let (listed, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|finding| matches!(finding.id, Ailment::Missing | Ailment::Unexpected));
    all.extend(lists(listed));
    all.extend(others);
    all
}

/// Something that is wrong with the tensor `key`.
pub fn finding(id: Ailment, key: &str, explanation: impl Into<String>) -> Finding {
    of_several(id, vec![key.into()], Vec::new(), explanation.into())
}

fn of_several(id: Ailment, tensors: Vec<String>, with: Vec<String>, explanation: String) -> Finding {
    Finding {
        id,
        health: Health::Wrong,
        tensors,
        explanation,
        with,
        rows: Vec::new(),
        row_count: None,
        factor: None,
    }
}

/// Missing and unexpected tensors, each as one finding.
fn lists(findings: Vec<Finding>) -> Vec<Finding> {
    let mut of: BTreeMap<Ailment, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        of.entry(finding.id).or_default().push(finding);
    }
    let one = |(id, findings): (Ailment, Vec<Finding>)| {
        let tensors: Vec<String> = findings.iter().flat_map(|finding| finding.tensors.clone()).collect();
        let explanation = match &findings[..] {
            [one] => one.explanation.clone(),
            [first, ..] => format!("{} tensors, the first: {}", findings.len(), first.explanation),
            [] => unreachable!("no group is empty"),
        };
        let with: Vec<String> = findings.iter().flat_map(|finding| finding.with.clone()).collect();
        let of_all = with.len() == tensors.len();
        of_several(id, tensors, if of_all { with } else { Vec::new() }, explanation)
    };
    of.into_iter().map(one).collect()
}

/// A tensor's layer and its name there.
fn of_layer(key: &str) -> Option<(usize, &str)> {
    let (layer, name) = key.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, name))
}

/// What holds what: whole layers first, then circles of tensors, then what holds a tensor that is where it should be.
fn exchanges(mut holds: BTreeMap<String, String>, right: &BTreeSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    let layers = layers(&holds, right);
    if !layers.is_empty() {
        let in_place = |layer: &usize| !layers.contains_key(layer);
        let (stale, exchanged): (Vec<_>, Vec<_>) = layers.iter().partition(|(_, other)| in_place(other));
        for (id, layers, tail) in [
            (Ailment::LayersExchanged, exchanged, ""),
            (Ailment::Stale, stale, ", which is where it should be, too"),
        ] {
            if layers.is_empty() {
                continue;
            }
            let of_them = |key: &String| {
                of_layer(key).is_some_and(|(layer, _)| layers.iter().any(|(l, _)| **l == layer))
            };
            let tensors: Vec<String> = holds.keys().filter(|key| of_them(key)).cloned().collect();
            let with = tensors.iter().map(|key| holds[key].clone()).collect();
            let words: Vec<String> =
                layers.iter().map(|(layer, other)| format!("layer {layer} holds layer {other}")).collect();
            found.push(of_several(id, tensors, with, format!("{}{tail}", words.join(", "))));
        }
        holds.retain(|key, _| !of_layer(key).is_some_and(|(layer, _)| layers.contains_key(&layer)));
    }
    while let Some(first) = holds.keys().next().cloned() {
        let mut circle = vec![first.clone()];
        while let Some(next) = holds.get(&circle[circle.len() - 1]).filter(|next| !circle.contains(next)) {
            circle.push(next.clone());
        }
        // The last of them is where the way ends: at the first again, or at what holds something else.
        let closed = holds.get(&circle[circle.len() - 1]) == Some(&first);
        let members = if closed { circle } else { vec![first] };
        let with: Vec<String> = members.iter().map(|key| holds[key].clone()).collect();
        let words: Vec<String> = members
            .iter()
            .zip(&with)
            .map(|(key, other)| format!("{key} holds the values of {other}"))
            .collect();
        for key in &members {
            holds.remove(key);
        }
        found.push(match closed {
            true => of_several(Ailment::Exchanged, members, with, words.join(", ")),
            false => {
                let tail = if right.contains(&with[0]) { ", which is where it should be, too" } else { "" };
                of_several(Ailment::Stale, members, with, format!("{}{tail}", words[0]))
            }
        });
    }
    found
}

/// Layers of which every tensor that is not right holds the one of that name in one other layer.
fn layers(holds: &BTreeMap<String, String>, right: &BTreeSet<String>) -> BTreeMap<usize, usize> {
    let mut of: BTreeMap<usize, Vec<(&str, usize, &str)>> = BTreeMap::new();
    for (key, other) in holds {
        if let (Some((layer, name)), Some((from, as_name))) = (of_layer(key), of_layer(other)) {
            of.entry(layer).or_default().push((name, from, as_name));
        }
    }
    let whole = |(layer, held): (usize, Vec<(&str, usize, &str)>)| {
        let from = held[0].1;
        let alike = held.iter().all(|(name, other, as_name)| name == as_name && *other == from);
        let matrices = held.iter().filter(|(name, ..)| name.ends_with("_proj.weight")).count();
        let prefix = format!("model.layers.{layer}.");
        // Norms may be alike in all layers; matrices are not.
        let kept = right.iter().any(|key| key.starts_with(&prefix) && key.ends_with("_proj.weight"));
        (alike && matrices >= 2 && !kept).then_some((layer, from))
    };
    of.into_iter().filter_map(whole).collect()
}

/// Queries and keys in the order of interleaved rotary embeddings: another engine's order where it is that of all, damage
/// where it is that of some.
fn interleaved(findings: Vec<Finding>, config: &Qwen3Config, right: &BTreeSet<String>) -> Option<Finding> {
    if findings.is_empty() {
        return None;
    }
    let tensors: Vec<String> = findings.into_iter().flat_map(|finding| finding.tensors).collect();
    let is_permuted = |key: &str| tensors.iter().any(|tensor| tensor == key);
    let mut kept = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for name in ["q_proj", "k_proj", "q_norm", "k_norm"] {
            let key = format!("model.layers.{layer}.self_attn.{name}.weight");
            if !is_permuted(&key) {
                kept.push(key);
            }
        }
    }
    // A norm whose weights are all alike is in both orders.
    let norms_too = tensors.iter().any(|key| key.contains("_norm."));
    let matrices_kept = kept.iter().any(|key| key.contains("_proj."));
    let norms_kept = kept.iter().any(|key| key.contains("_norm.") && right.contains(key));
    let count = tensors.len();
    let (health, explanation) = if matrices_kept {
        (
            Health::Wrong,
            format!(
                "{count} tensors of queries and keys are permuted for interleaved RoPE, and {} are not, the first {}: no \
             engine reads both orders",
                kept.len(),
                kept[0]
            ),
        )
    } else if norms_kept && norms_too {
        (
            Health::Wrong,
            format!(
                "queries and keys are permuted for interleaved RoPE, and of their norms only some are; {} is not",
                kept[0]
            ),
        )
    } else {
        (
            Health::Layout,
            format!(
                "{count} tensors of queries and keys of all layers are permuted for interleaved RoPE, the order of GGUF files of \
             Llama: right for an engine that rotates neighbours, and not for one that rotates halves, as Transformers and \
             llama.cpp do for Qwen3{}",
                if norms_kept { "; the weights of q_norm and k_norm keep the order of halves" } else { "" }
            ),
        )
    };
    Some(Finding { health, ..of_several(Ailment::InterleavedRope, tensors, Vec::new(), explanation) })
}
