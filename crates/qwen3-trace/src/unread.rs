//! Tensors of a file that nothing reads, and names that are nearly right.

use std::collections::BTreeMap;

use qwen3_config::{Qwen3Config, Site};
use strsim::{normalized_levenshtein, osa_distance};

use crate::error::ensure;
use crate::readings::without_step;
use crate::stored_floors::StoredFloors;
use crate::{Trace, TraceError};

/// What a file of activations may hold beside the tensors of the model.
pub(crate) const OTHERS: [&str; 7] =
    ["input_ids", "attention_mask", "generated_ids", "step_logits", "margins", "rope_cos", "rope_sin"];
/// Letters that a name may be off by to be taken for a slip.
const SLIP: usize = 2;

impl Trace {
    /// The names of tensors that are none of the keys of a reference, and of files beside them that hold no tensor.
    ///
    /// # Errors
    /// When one is nearly such a key, as `layer_1_output` and `Layer_02_output` are: naming both.
    pub fn unread(&self, config: &Qwen3Config) -> Result<Vec<String>, TraceError> {
        let known = known(config);
        let mut unread = Vec::new();
        for name in self.names() {
            let of_step =
                !without_step(&name).0.is_empty() && known.iter().any(|key| key == without_step(&name).1);
            if known.contains(&name) || of_step || StoredFloors::has_name(&name) || self.is_known(&name) {
                continue;
            }
            let meant = known.iter().find(|known| is_slip(&name, known));
            ensure(meant.is_none(), self.path(), || {
                let meant = meant.map_or("", String::as_str);
                format!("tensor `{}` is not read: did you mean `{meant}`?", name.escape_debug())
            })?;
            unread.push(name);
        }
        unread.extend_from_slice(self.others());
        unread.sort();
        Ok(unread)
    }
}

/// Every key that is read.
fn known(config: &Qwen3Config) -> Vec<String> {
    let sites = Site::all(config.num_hidden_layers).map(|site| site.to_string());
    sites.chain(OTHERS.map(String::from)).collect()
}

/// For each of `names`, which are no keys of a reference, the key that it may be meant for, if there is one: that of the
/// output of the Transformers module of this name, or the key that it looks like most.
pub fn meant(names: &[String], config: &Qwen3Config) -> BTreeMap<String, String> {
    let known = known(config);
    let likely = |name: &String| {
        let module = of_module(name).filter(|key| known.contains(key));
        Some((name.clone(), module.or_else(|| most_like(name, &known))?))
    };
    names.iter().filter(|name| !known.contains(name)).filter_map(likely).collect()
}

/// Tensors that were ignored, in words; `None` without any. Names are a file's: control characters are escaped.
pub fn ignored(names: &[String], meant: &BTreeMap<String, String>) -> Option<String> {
    /// More are counted.
    const MOST: usize = 12;
    let shown = |name: &String| {
        let hint = meant.get(name).map_or(String::new(), |key| format!(" (did you mean {key}?)"));
        format!("{}{hint}", name.escape_debug())
    };
    let mut all: Vec<String> = names.iter().take(MOST).map(shown).collect();
    if names.len() > MOST {
        all.push(format!("and {} more", names.len() - MOST));
    }
    (!names.is_empty()).then(|| format!("ignored {}: {}", names.len(), all.join(", ")))
}

/// The key of what the Transformers module of this name gives: `model.layers.0.self_attn.q_proj`.
fn of_module(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let ends = ["_output", ".output", ".weight"];
    let name = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let Some(inside) = name.strip_prefix("layers.") else {
        return match name {
            "embed_tokens" => Some("embedding_output".into()),
            "norm" => Some("final_norm_output".into()),
            "lm_head" => Some("logits".into()),
            _ => None,
        };
    };
    let (layer, tap) = inside.split_once('.').unwrap_or((inside, ""));
    let layer: usize = layer.parse().ok()?;
    Some(match tap {
        "" => format!("layer_{layer:02}_output"),
        "self_attn" => format!("layer_{layer:02}.self_attn.o_proj"),
        tap => format!("layer_{layer:02}.{tap}"),
    })
}

/// Letters of a name that have to be those of a key, as a share.
const ALIKE: f64 = 0.6;

/// The key with the same numbers whose letters are most alike, if they are alike enough.
fn most_like(name: &str, known: &[String]) -> Option<String> {
    let (letters, numbers) = parts(name);
    let alike = |key: &String| {
        let other = parts(key);
        let alike = normalized_levenshtein(&letters, &other.0);
        (other.1 == numbers && alike >= ALIKE).then_some((key.clone(), alike))
    };
    let likely = known.iter().filter_map(alike);
    likely.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(key, _)| key)
}

/// Has `name` the numbers of `known`, and but for case, punctuation and a slip its letters?
fn is_slip(name: &str, known: &str) -> bool {
    let (name, known) = (parts(name), parts(known));
    name.1 == known.1 && osa_distance(&name.0, &known.0) <= SLIP.min(known.0.len() / 3)
}

/// The letters of a name in lower case, and its numbers without leading zeros.
fn parts(name: &str) -> (String, Vec<String>) {
    let letters = name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    let numbers = name.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    (letters, numbers.map(|run| run.trim_start_matches('0').to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_right_are_told_from_others() {
        for (name, known) in [
            ("layer_1_output", "layer_01_output"),
            ("Layer_02_output", "layer_02_output"),
            ("layer_00.output", "layer_00_output"),
            ("layers.3.self_attn.q-norm", "layer_03.self_attn.q_norm"),
            ("logit", "logits"),
            ("final_norm_outputs", "final_norm_output"),
        ] {
            assert!(is_slip(name, known), "{name}");
        }
        let tiny = Qwen3Config::tiny();
        for (name, key) in [
            ("model.layers.0.self_attn.q_proj", Some("layer_00.self_attn.q_proj")),
            ("model.layers.1", Some("layer_01_output")),
            ("layers.1.self_attn", Some("layer_01.self_attn.o_proj")),
            ("model.norm", Some("final_norm_output")),
            ("lm_head", Some("logits")),
            ("layer_00.attention.q_rope", Some("layer_00.self_attn.q_rope")),
            ("model.layers.99.mlp", None),
            ("my_hidden_state", None),
        ] {
            let found = meant(&[name.into()], &tiny);
            assert_eq!(found.get(name).map(String::as_str), key, "{name}");
        }
        for (name, known) in [
            ("layer_1_output", "layer_02_output"),
            ("hidden_states", "layer_00_output"),
            ("mlp", "logits"),
            ("k_cache", "layer_00.mlp"),
        ] {
            assert!(!is_slip(name, known), "{name}");
        }
    }

    #[test]
    fn what_was_ignored_is_told_with_what_may_be_meant() {
        let names = |count: usize| (0..count).map(|at| format!("t{at}")).collect::<Vec<_>>();
        let meant = BTreeMap::from([("t1".to_string(), "logits".to_string())]);
        assert_eq!(ignored(&[], &meant), None);
        assert_eq!(ignored(&names(2), &meant).unwrap(), "ignored 2: t0, t1 (did you mean logits?)");
        assert!(ignored(&names(15), &meant).unwrap().ends_with(", t11, and 3 more"));
        assert_eq!(ignored(&["\u{1b}".into()], &meant).unwrap(), "ignored 1: \\u{1b}");
    }
}
