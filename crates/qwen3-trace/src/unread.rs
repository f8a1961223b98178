//! Tensors of a file that nothing reads, and names that are nearly right.

use qwen3_config::{Qwen3Config, Site};
use strsim::osa_distance;

use crate::error::ensure;
use crate::stored_floors::StoredFloors;
use crate::{Trace, TraceError};

/// What a file of activations may hold beside the tensors of the model.
const OTHERS: [&str; 7] =
    ["input_ids", "attention_mask", "generated_ids", "step_logits", "margins", "rope_cos", "rope_sin"];
/// Letters that a name may be off by to be taken for a slip.
const SLIP: usize = 2;

impl Trace {
    /// The names of tensors that are none of the keys of a reference.
    ///
    /// # Errors
    /// When one is nearly such a key, as `layer_1_output` and `Layer_02_output` are: naming both.
    pub fn unread(&self, config: &Qwen3Config) -> Result<Vec<String>, TraceError> {
        let sites = Site::all(config.num_hidden_layers).map(|site| site.to_string());
        let known: Vec<String> = sites.chain(OTHERS.map(String::from)).collect();
        let mut unread = Vec::new();
        for name in self.names() {
            if known.contains(&name) || StoredFloors::has_name(&name) {
                continue;
            }
            let meant = known.iter().find(|known| is_slip(&name, known));
            ensure(meant.is_none(), self.path(), || {
                let meant = meant.map_or("", String::as_str);
                format!("tensor `{}` is not read: did you mean `{meant}`?", name.escape_debug())
            })?;
            unread.push(name);
        }
        unread.sort();
        Ok(unread)
    }
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
        for (name, known) in [
            ("layer_1_output", "layer_02_output"),
            ("hidden_states", "layer_00_output"),
            ("mlp", "logits"),
            ("k_cache", "layer_00.mlp"),
        ] {
            assert!(!is_slip(name, known), "{name}");
        }
    }
}
