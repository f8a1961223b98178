#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use qwen3_checkpoint::open_regular;
use serde_json::Value;

use super::safetensors::Safetensors;
use super::{Format, Stored, check_name, malformed, no_tensor, printed, shown};
use crate::TraceError;

/// A tree larger than this is mostly text that is not read.
const MAX_TREE_BYTES: u64 = 16 << 20;
/// How the name of a tree with values ends.
const FULL: &str = "_FULL_TENSORS.json";

/// What Transformers' `model_addition_debugger_context` wrote of a forward pass: a tree of calls of modules, with the
/// tensors that each was given, and of modules without modules in them what they returned. Of several passes it has
/// the last. Values lie in safetensors files beside the tree (`use_repr=False`), or are printed in it.
#[derive(Debug)]
pub(super) struct DebugTree {
    file: PathBuf,
    tensors: BTreeMap<String, Recorded>,
}

#[derive(Debug)]
struct Recorded {
    shape: Vec<usize>,
    dtype: String,
    value: RecordedValue,
    /// Did the module run more than once?
    again: bool,
}

#[derive(Debug)]
enum RecordedValue {
    Printed(String),
    /// The name of a safetensors file.
    File(String),
}

impl DebugTree {
    /// The tree in a folder, if there is one.
    pub(super) fn in_folder(folder: &Path) -> Result<Option<PathBuf>, TraceError> {
        let io =
            |source| TraceError::File(qwen3_checkpoint::CheckpointError::Io { file: folder.into(), source });
        let mut found: Option<PathBuf> = None;
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let is_tree = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(FULL));
            match &found {
                Some(first) if is_tree => {
                    let reason = format!("more than one *{FULL}: name {} or another", first.display());
                    return Err(TraceError::malformed(folder, reason));
                }
                _ if is_tree => found = Some(path),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Reads a tree.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let bad = |reason: String| TraceError::malformed(path, reason);
        let (file, length) = open_regular(path)?;
        if length > MAX_TREE_BYTES {
            return Err(bad(format!(
                "{length} bytes, at most {MAX_TREE_BYTES} are read: record with use_repr=False"
            )));
        }
        let mut text = Vec::new();
        let read = file.take(MAX_TREE_BYTES).read_to_end(&mut text);
        read.map_err(|source| {
            TraceError::File(qwen3_checkpoint::CheckpointError::Io { file: path.into(), source })
        })?;
        let tree: Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let no_tree = || bad(format!("no tree of Transformers' debugging utilities (*{FULL})"));
        let root = tree["module_path"].as_str().ok_or_else(no_tree)?;
        let mut walk = Walk { root, tensors: BTreeMap::new(), without_value: false };
        walk.module(&tree).map_err(bad)?;
        if walk.tensors.is_empty() {
            let summary = format!("shapes without values: the tree with values is the *{FULL}");
            return Err(bad(if walk.without_value { summary } else { "no tensor is in it".into() }));
        }
        Ok(Self { file: path.into(), tensors: walk.tensors })
    }

    fn recorded(&self, name: &str) -> Result<&Recorded, TraceError> {
        let recorded = self.tensors.get(name).ok_or_else(|| no_tensor(&self.file, name))?;
        if recorded.again {
            let reason = "its module ran more than once in this pass, which one name does not tell apart";
            return Err(malformed(&self.file, name, reason));
        }
        Ok(recorded)
    }
}

impl Format for DebugTree {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        Ok(self.recorded(name)?.shape.clone())
    }

    fn stored(&self, name: &str) -> Result<Stored, TraceError> {
        let Recorded { shape, dtype, value, .. } = self.recorded(name)?;
        let file_name = match value {
            RecordedValue::Printed(text) => {
                let parsed = printed::parse(text, dtype, shape.clone());
                return parsed.map_err(|reason| malformed(&self.file, name, reason));
            }
            RecordedValue::File(file_name) => file_name,
        };
        let plain = Path::new(file_name).components().map(|part| matches!(part, Component::Normal(_)));
        if plain.collect::<Vec<_>>() != [true] {
            let reason = format!("its value `{}` is no file beside the tree", shown(file_name));
            return Err(malformed(&self.file, name, reason));
        }
        let stored = Safetensors::open(&self.file.with_file_name(file_name))?.stored("data")?;
        if stored.shape != *shape {
            let reason = format!("shape {shape:?} in the tree, {:?} in {file_name}", stored.shape);
            return Err(malformed(&self.file, name, reason));
        }
        Ok(stored)
    }
}

/// Collects the tensors of a tree.
struct Walk<'a> {
    /// The path of the model itself, which other paths begin with: the name of its class.
    root: &'a str,
    tensors: BTreeMap<String, Recorded>,
    /// Was there a tensor without its values?
    without_value: bool,
}

impl Walk<'_> {
    /// A module's call, and those in it.
    fn module(&mut self, node: &Value) -> Result<(), String> {
        let path = node["module_path"].as_str().ok_or("a call without a `module_path`")?;
        let below = if path == self.root { Some("") } else { path.strip_prefix(&format!("{}.", self.root)) };
        let path = below.unwrap_or(path);
        let dot = if path.is_empty() { "" } else { "." };
        if let Some(output) = first_tensor(&node["outputs"]) {
            self.tensor(if path.is_empty() { "outputs" } else { path }, output)?;
        }
        self.inputs(&format!("{path}{dot}inputs"), &node["inputs"])?;
        node["children"].as_array().into_iter().flatten().try_for_each(|child| self.module(child))
    }

    /// All tensors in a module's arguments, by the keys and indices that lead to them.
    fn inputs(&mut self, name: &str, value: &Value) -> Result<(), String> {
        check_name(name)?;
        if is_tensor(value) {
            return self.tensor(name, value);
        }
        match value {
            Value::Array(items) => {
                items.iter().enumerate().try_for_each(|(at, item)| self.inputs(&format!("{name}.{at}"), item))
            }
            Value::Object(entries) => {
                entries.iter().try_for_each(|(key, item)| self.inputs(&format!("{name}.{key}"), item))
            }
            _ => Ok(()),
        }
    }

    fn tensor(&mut self, name: &str, tensor: &Value) -> Result<(), String> {
        check_name(name)?;
        let value = match &tensor["value"] {
            Value::String(file) => RecordedValue::File(file.strip_prefix("./").unwrap_or(file).into()),
            Value::Array(lines) => {
                let lines: Option<Vec<_>> = lines.iter().map(Value::as_str).collect();
                let wrong = || format!("tensor `{}` has a value that is no text", shown(name));
                RecordedValue::Printed(lines.ok_or_else(wrong)?.join("\n"))
            }
            _ => {
                self.without_value = true;
                return Ok(());
            }
        };
        let shape = tensor["shape"].as_str().and_then(size);
        let shape = shape.ok_or_else(|| format!("tensor `{}` has no shape", shown(name)))?;
        let dtype = tensor["dtype"].as_str().unwrap_or_default().trim_start_matches("torch.").into();
        let recorded = Recorded { shape, dtype, value, again: false };
        if let Some(first) = self.tensors.insert(name.into(), recorded) {
            self.tensors.insert(name.into(), Recorded { again: true, ..first });
        }
        Ok(())
    }
}

/// Is it what is written of a tensor?
fn is_tensor(value: &Value) -> bool {
    value["shape"].is_string() && value["dtype"].is_string()
}

/// The first tensor of what a module returned.
fn first_tensor(value: &Value) -> Option<&Value> {
    if is_tensor(value) {
        return Some(value);
    }
    match value {
        Value::Array(items) => items.iter().find_map(first_tensor),
        Value::Object(entries) => entries.values().find_map(first_tensor),
        _ => None,
    }
}

/// The sizes of a `torch.Size([1, 4, 64])`.
fn size(text: &str) -> Option<Vec<usize>> {
    let sizes = text.strip_prefix("torch.Size([")?.strip_suffix("])")?;
    sizes.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect()
}
