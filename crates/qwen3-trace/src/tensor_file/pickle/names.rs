//! The names of the tensors in a pickle's containers.

use std::collections::BTreeMap;

use super::machine::{Id, Machine, Value};
use super::meanings::Rebuilt;
use super::{MAX_DEPTH, MAX_TENSORS, TensorView};
use crate::tensor_file::{check_name, shown};

/// Names the tensors in containers.
pub(super) struct Names<'m, 'a> {
    pub(super) machine: &'m Machine<'a>,
    /// The name of what is visited.
    pub(super) name: String,
    pub(super) found: BTreeMap<String, TensorView>,
    /// What is in several containers is visited as often.
    pub(super) visits: usize,
}

impl Names<'_, '_> {
    /// Finds the tensors in a value, which may have containers in containers `depth` times.
    pub(super) fn visit(&mut self, id: Id, depth: usize) -> Result<(), String> {
        self.visits += 1;
        self.machine.check(self.visits)?;
        let machine = self.machine;
        match &machine.values[id] {
            Value::Tensor(tensor) => self.tensor(tensor),
            Value::Tuple(items) | Value::List(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| self.item(&index.to_string(), *item, depth)),
            Value::Dict(entries) => entries.iter().try_for_each(|(key, item)| match &machine.values[*key] {
                Value::Text(key) => self.item(key, *item, depth),
                Value::Int(key) => self.item(&key.to_string(), *item, depth),
                _ => match &machine.values[*item] {
                    Value::Plain | Value::Int(_) | Value::Text(_) | Value::Name(_) => Ok(()),
                    _ => Err(format!(
                        "in `{}` a key is neither text nor a number, so that what it is for has no name",
                        shown(&self.name)
                    )),
                },
            }),
            Value::Plain | Value::Int(_) | Value::Text(_) | Value::Name(_) | Value::Storage(_) => Ok(()),
        }
    }

    /// Visits what is in a container under `key`.
    fn item(&mut self, key: &str, id: Id, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or_else(|| format!("containers more than {MAX_DEPTH} deep"))?;
        let length = self.name.len();
        if length > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        check_name(&self.name)?;
        self.visit(id, depth)?;
        self.name.truncate(length);
        Ok(())
    }

    fn tensor(&mut self, tensor: &Rebuilt) -> Result<(), String> {
        let Self { machine, name, found, .. } = self;
        let wrong = || format!("tensor `{}` is not where a storage is", shown(name));
        let Value::Storage(storage) = &machine.values[tensor.storage] else { return Err(wrong()) };
        let view = TensorView {
            dtype: tensor.dtype.unwrap_or(storage.dtype),
            storage: storage.clone(),
            offset: machine.number(tensor.offset).ok_or_else(wrong)?,
            shape: machine.numbers(tensor.size, name)?,
            strides: machine.numbers(tensor.strides, name)?,
        };
        if found.insert(name.clone(), view).is_some() {
            return Err(format!("tensor `{}` is there twice", shown(name)));
        }
        if found.len() > MAX_TENSORS { Err(format!("more than {MAX_TENSORS} tensors")) } else { Ok(()) }
    }
}
