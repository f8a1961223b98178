//! Two configs beside each other.

use qwen3_config::Qwen3Config;
use qwen3_report::doctor::{Ailment, Finding};
use serde_json::Value;

use crate::groups::finding;

/// Fields that say nothing of what a model computes, or of which the tensors say more.
const LEFT_OUT: [&str; 4] =
    ["torch_dtype", "architectures", "tie_word_embeddings", "max_position_embeddings"];

/// The fields in which a model computes something else.
pub fn configs(model: &Qwen3Config, original: &Qwen3Config) -> Option<Finding> {
    let fields = |config: &Qwen3Config| -> serde_json::Map<String, Value> {
        serde_json::from_str(&config.to_json()).expect("a config's own JSON")
    };
    let (ours, theirs) = (fields(model), fields(original));
    let absent = Value::Null;
    let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let differ = names.into_iter().filter(|name| !LEFT_OUT.contains(&name.as_str())).filter_map(|name| {
        let (a, b) = (ours.get(name).unwrap_or(&absent), theirs.get(name).unwrap_or(&absent));
        (a != b).then(|| format!("{name} is {a}, the original's {b}"))
    });
    let differ: Vec<String> = differ.collect();
    let mut found = finding(Ailment::Config, "", format!("config: {}", differ.join("; ")));
    found.tensors.clear();
    (!differ.is_empty()).then_some(found)
}
