//! Activations in a file: the reference's, ours, or somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use qwen3_config::{Qwen3Config, Rows, Site};

use crate::error::ensure;
use crate::names::layer_of;
use crate::readings::{Reading, Readings, without_step};
use crate::source::{Found, Source};
use crate::{Array, Taken, TensorFile, TraceError, Values};

/// Tensors by the reference's keys: `embedding_output`, `layer_03.self_attn.q_norm`, `layer_03_output`,
/// `final_norm_output`, `logits`; any subset.
pub struct Trace {
    path: PathBuf,
    source: Source,
    /// What stands before each key in the file.
    prefix: String,
    /// What other names and layouts than the keys say were taken for.
    readings: Readings,
}

impl Trace {
    /// Opens a file or folder of tensors, as [`TensorFile::open`] reads them.
    ///
    /// # Errors
    /// When it cannot be read or is malformed.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Ok(Self {
            path: path.into(),
            source: Source::File(Rc::new(TensorFile::open(path)?)),
            prefix: String::new(),
            readings: Readings::default(),
        })
    }

    /// The tensors of a folder that a [`Recorder`](crate::Recorder) wrote, whose keys begin with
    /// `prefix`.
    pub fn recorded(folder: &Path, prefix: &str) -> Self {
        Self {
            path: folder.into(),
            source: Source::recording(),
            prefix: prefix.into(),
            readings: Readings::default(),
        }
    }

    /// Tensors in memory that are of the file `path`.
    pub fn in_memory(path: &Path, tensors: BTreeMap<String, Array>) -> Self {
        Self {
            path: path.into(),
            source: Source::Memory(Rc::new(tensors)),
            prefix: String::new(),
            readings: Readings::default(),
        }
    }

    /// Tensor `key`, if there is one.
    fn find(&self, key: &str) -> Result<Option<Found>, TraceError> {
        match self.readings.by_key.get(key) {
            Some(reading) => self.source.find(&self.path, &reading.name),
            None => self.source.find(&self.path, &format!("{}{key}", self.prefix)),
        }
    }

    /// Is there a tensor `key`?
    ///
    /// # Errors
    /// When a file is malformed.
    pub fn has(&self, key: &str) -> Result<bool, TraceError> {
        Ok(self.find(key)?.is_some())
    }

    /// The shape of tensor `key`, if the file has it. Its values are not read.
    ///
    /// # Errors
    /// When its header is malformed.
    pub fn shape(&self, key: &str) -> Result<Option<Vec<usize>>, TraceError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        match self.readings.by_key.get(key) {
            Some(Reading { layout: Some(_), shape, .. }) => Ok(Some(shape.clone())),
            _ => found.shape().map(Some),
        }
    }

    /// Checks that tensor `key`, if the file has it, is of this shape. Its values are not read.
    ///
    /// # Errors
    /// When it is of another, or its header is malformed.
    pub fn check_shape(&self, key: &str, expected: &[usize]) -> Result<(), TraceError> {
        match self.shape(key)? {
            Some(found) if found != expected => Err(TraceError::Shape {
                file: self.path.clone(),
                tensor: key.into(),
                found,
                expected: expected.into(),
            }),
            _ => Ok(()),
        }
    }

    /// The tensor `key` with its shape, if the file has it. Values need not be finite.
    ///
    /// # Errors
    /// When it is malformed or holds integers.
    pub fn array(&self, key: &str) -> Result<Option<Array>, TraceError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        let mut array = found.read_any()?;
        array.floats(key).map_err(|error| self.in_file(error))?;
        let reading = self.readings.by_key.get(key);
        if let Some(other) = reading.and_then(|reading| reading.added.as_deref()) {
            array = self.sum(array, other)?;
        }
        Ok(Some(match reading {
            Some(Reading { layout: Some(layout), shape, .. }) => {
                let values = array.floats(key).map_err(|error| self.in_file(error))?;
                Array { shape: shape.clone(), values: Values::Float(layout.apply(values)) }
            }
            _ => array,
        }))
    }

    /// The tensor with the values of `other`, which is a name in the file, added.
    fn sum(&self, array: Array, other: &str) -> Result<Array, TraceError> {
        let Some(added) = self.source.find(&self.path, other)? else {
            return Ok(array);
        };
        let added = added.read_any()?;
        let in_file = |error| self.in_file(error);
        let (values, added) = (array.floats(other).map_err(in_file)?, added.floats(other).map_err(in_file)?);
        let sums = values.iter().zip(added).map(|(value, added)| value + added).collect();
        Ok(Array { values: Values::Float(sums), shape: array.shape })
    }

    /// Checks that tensor `key` is finite, as expectations have to be.
    ///
    /// # Errors
    /// When it is not, or is malformed.
    pub fn check_finite(&self, key: &str) -> Result<(), TraceError> {
        if let Some(found) = self.find(key)? {
            found.read()?;
        }
        Ok(())
    }

    /// The values of tensor `key` in float64, if the file has it.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn values(&self, key: &str) -> Result<Option<Vec<f64>>, TraceError> {
        self.array(key)?.map(|array| array.wide(key)).transpose()
    }

    /// A matrix of integers `[rows, columns]`, if the file has it; a list is one row.
    ///
    /// # Errors
    /// When it is malformed, holds floats or is no matrix.
    pub fn grid(&self, key: &str) -> Result<Option<Vec<Vec<i64>>>, TraceError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        let array = found.read()?;
        let values = array.ints(key).map_err(|error| self.in_file(error))?;
        let columns = match array.shape[..] {
            [_, columns] | [columns] => columns,
            _ => {
                let reason = format!("tensor `{key}`: shape {:?} is no matrix", array.shape);
                return Err(TraceError::malformed(&self.path, reason));
            }
        };
        Ok(Some(values.chunks(columns).map(<[i64]>::to_vec).collect()))
    }

    /// An error about a tensor's values, with the file.
    fn in_file(&self, error: TraceError) -> TraceError {
        TraceError::malformed(&self.path, error.to_string())
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in order; none of a recording's.
    pub fn names(&self) -> Vec<String> {
        self.source.names()
    }

    /// The same file with what is known of its tensors.
    pub(crate) fn with_readings(&self, readings: Readings) -> Self {
        let (path, source, prefix) = (self.path.clone(), self.source.clone(), self.prefix.clone());
        Self { path, source, prefix, readings }
    }

    /// Those tensors whose names are not keys, or whose values lie otherwise than their keys say.
    pub fn taken(&self) -> &[Taken] {
        &self.readings.taken
    }

    /// Those that are known and compared with nothing, and why.
    pub fn left(&self) -> &BTreeMap<String, String> {
        &self.readings.left
    }

    /// Those of another shape than the tensors have that they are called as, and what that is.
    pub fn misshapen(&self) -> &BTreeMap<String, String> {
        &self.readings.misshapen
    }

    /// Is it known what a tensor of this name in the file is?
    pub(crate) fn is_known(&self, name: &str) -> bool {
        self.left().contains_key(name)
            || self.misshapen().contains_key(name)
            || self.taken().iter().any(|taken| taken.name == name)
    }

    /// The numbers of the cached steps that there are tensors of.
    pub fn steps(&self, config: &Qwen3Config) -> BTreeSet<usize> {
        let names = self.names();
        let keys = names.iter().chain(self.readings.by_key.keys());
        let number = |key: &String| {
            let (step, rest) = without_step(key);
            let site: Site = rest.parse().ok()?;
            let there = site.layer.is_none_or(|layer| layer < config.num_hidden_layers);
            step.strip_prefix("step_")?.strip_suffix('.')?.parse().ok().filter(|_| there)
        };
        keys.filter_map(number).collect()
    }

    /// The files beside the tensors that hold none, in a folder of `.npy` files.
    pub fn others(&self) -> &[String] {
        self.source.others()
    }

    /// Checks the shape of every tensor that has one of the keys above. Layers that the config lacks are an error; keys
    /// that are none of these are left alone. Gives what was found, in the order of computation.
    ///
    /// # Errors
    /// A misshapen tensor, naming file and key.
    pub fn check(&self, config: &Qwen3Config, rows: &Rows) -> Result<Vec<Site>, TraceError> {
        let [batch, seq] = rows.dims();
        let mut found = Vec::new();
        for site in Site::all(config.num_hidden_layers) {
            let key = site.to_string();
            if !self.has(&key)? {
                continue;
            }
            self.check_shape(&key, &site.tap.shape(config, batch, seq))?;
            // Unpacked when its size is known to be right.
            self.array(&key)?;
            found.push(site);
        }
        let layers = config.num_hidden_layers;
        let beyond = |name: &String| layer_of(name).is_some_and(|layer| layer >= layers);
        let name = self.names().into_iter().filter(beyond).min();
        ensure(name.is_none(), &self.path, || {
            let name = name.unwrap_or_default();
            format!("tensor `{name}` is of a layer that the checkpoint, with {layers} layers, does not have")
        })?;
        Ok(found)
    }
}
