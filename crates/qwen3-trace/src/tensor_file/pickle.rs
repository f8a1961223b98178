//! The part of Python's pickles that `torch.save` writes of tensors.
//!
//! A pickle is a program for a stack machine, which may call any function of Python. This machine has no functions:
//! the few names below are put on the stack as names, and what `torch` would make of them and their arguments is a
//! [`TensorView`]. Every other name ends it with an error. Values are bounded in number, names in length, nesting in
//! depth; a loop does not exist in a pickle.

mod machine;
mod meanings;
mod names;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;

use self::machine::{Machine, Value};
use self::names::Names;

/// Values in a pickle: some 20 for each tensor.
const MAX_VALUES: usize = 1 << 20;
/// Tensors in a pickle, under all their names.
const MAX_TENSORS: usize = 1 << 16;
/// Containers in containers.
const MAX_DEPTH: usize = 64;
/// Bytes of a storage's key, which is a number.
const MAX_KEY: usize = 32;
/// Axes of a tensor, as PyTorch has them at most.
const MAX_AXES: usize = 64;

/// Where a tensor lies in its storage, as the pickle claims it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorView {
    /// PyTorch's name of the dtype.
    pub(super) dtype: &'static str,
    pub(super) storage: Storage,
    /// In elements of the dtype, as strides are.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// The values of one tensor or several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Its entry in `data/`.
    pub(super) key: String,
    /// PyTorch's name of the dtype that it is counted in: `uint8` of an untyped one.
    pub(super) dtype: &'static str,
    /// The number of its elements.
    pub(super) numel: u64,
}

/// The tensors of a pickle by their names: keys and indices joined with dots, `bare` for a tensor alone.
pub(super) fn tensors(pickle: &[u8], bare: &str) -> Result<BTreeMap<String, TensorView>, String> {
    let mut machine = Machine::new(pickle);
    let top = machine.run().map_err(|reason| {
        let at = pickle.len() - machine.rest.len();
        format!("data.pkl, before byte {at}: {reason}")
    })?;
    let mut names = Names { machine: &machine, name: String::new(), found: BTreeMap::new(), visits: 0 };
    match machine.values[top] {
        Value::Tensor(_) => {
            names.name.push_str(bare);
            names.visit(top, 0)?;
        }
        _ => names.visit(top, MAX_DEPTH)?,
    }
    Ok(names.found)
}
