//! Activations in a file: the reference's, ours, or somebody else's.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use qwen3_config::{Qwen3Config, Rows, Site};

use crate::error::ensure;
use crate::names::layer_of;
use crate::recorder::part_of;
use crate::{Array, TensorFile, TraceError};

/// Tensors by the reference's keys: `embedding_output`, `layer_03.self_attn.q_norm`, `layer_03_output`,
/// `final_norm_output`, `logits`; any subset.
pub struct Trace {
    path: PathBuf,
    source: Source,
    /// What stands before each key in the file.
    prefix: String,
    /// Are the tensors those of one sequence, without a batch axis?
    unbatched: Cell<bool>,
}

enum Source {
    /// One file.
    File(Rc<TensorFile>),
    /// A folder of files, one for each part of the model; the one that was opened last is kept.
    Recording(RefCell<Option<(String, Rc<TensorFile>)>>),
}

impl Trace {
    /// Opens an npz or safetensors file.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Ok(Self {
            path: path.into(),
            source: Source::File(Rc::new(TensorFile::open(path)?)),
            prefix: String::new(),
            unbatched: Cell::new(false),
        })
    }

    /// The tensors of a folder that a [`Recorder`](crate::Recorder) wrote, whose keys begin with
    /// `prefix`.
    pub fn recorded(folder: &Path, prefix: &str) -> Self {
        Self {
            path: folder.into(),
            source: Source::Recording(RefCell::new(None)),
            prefix: prefix.into(),
            unbatched: Cell::new(false),
        }
    }

    /// The file with tensor `key`, if there is one, and the tensor's name in it.
    fn find(&self, key: &str) -> Result<Option<(Rc<TensorFile>, String)>, TraceError> {
        let name = format!("{}{key}", self.prefix);
        let file = match &self.source {
            Source::File(file) => Rc::clone(file),
            Source::Recording(opened) => {
                let part = part_of(&name);
                let mut opened = opened.borrow_mut();
                match &*opened {
                    Some((known, file)) if *known == part => Rc::clone(file),
                    _ => {
                        let path = self.path.join(format!("{part}.safetensors"));
                        if !path.exists() {
                            return Ok(None);
                        }
                        let file = Rc::new(TensorFile::open(&path)?);
                        *opened = Some((part, Rc::clone(&file)));
                        file
                    }
                }
            }
        };
        Ok(file.has(&name).then_some((file, name)))
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
        let Some((file, name)) = self.find(key)? else {
            return Ok(None);
        };
        let mut shape = file.shape(&name)?;
        if self.unbatched.get() {
            shape.insert(0, 1);
        }
        Ok(Some(shape))
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
        let Some((file, name)) = self.find(key)? else {
            return Ok(None);
        };
        let mut array = file.read_any(&name)?;
        if self.unbatched.get() {
            array.shape.insert(0, 1);
        }
        array.floats(key).map_err(|error| in_file(&file, error))?;
        Ok(Some(array))
    }

    /// Checks that tensor `key` is finite, as expectations have to be.
    ///
    /// # Errors
    /// When it is not, or is malformed.
    pub fn check_finite(&self, key: &str) -> Result<(), TraceError> {
        if let Some((file, name)) = self.find(key)? {
            file.read(&name)?;
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
        let Some((file, name)) = self.find(key)? else {
            return Ok(None);
        };
        let array = file.read(&name)?;
        let values = array.ints(key).map_err(|error| in_file(&file, error))?;
        let columns = match array.shape[..] {
            [_, columns] | [columns] => columns,
            _ => {
                let reason = format!("tensor `{key}`: shape {:?} is no matrix", array.shape);
                return Err(TraceError::malformed(file.path(), reason));
            }
        };
        Ok(Some(values.chunks(columns).map(<[i64]>::to_vec).collect()))
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors; none of a recording's.
    pub fn names(&self) -> Vec<String> {
        match &self.source {
            Source::File(file) => file.names(),
            Source::Recording(_) => Vec::new(),
        }
    }

    /// Checks the shape of every tensor that has one of the keys above; those of one sequence may all be
    /// without a batch axis. Layers that the config lacks are an error; keys that are none of these are left
    /// alone. Gives what was found, in the order of computation.
    ///
    /// # Errors
    /// A misshapen tensor, naming file and key.
    pub fn check(&self, config: &Qwen3Config, rows: &Rows) -> Result<Vec<Site>, TraceError> {
        let [batch, seq] = rows.dims();
        let mut found = Vec::new();
        for site in Site::all(config.num_hidden_layers) {
            let key = site.to_string();
            let Some(shape) = self.shape(&key)? else {
                continue;
            };
            let expected = site.tap.shape(config, batch, seq);
            let bare = batch == 1 && shape == expected[1..];
            if bare && found.is_empty() {
                self.unbatched.set(true);
            } else {
                self.check_shape(&key, &expected)?;
            }
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

/// An error about a tensor's values, with the file that the tensor is in.
fn in_file(file: &TensorFile, error: TraceError) -> TraceError {
    TraceError::malformed(file.path(), error.to_string())
}
