//! Where the tensors of a [`Trace`](crate::Trace) lie.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::recorder::part_of;
use crate::{Array, TensorFile, TraceError};

/// Files, or memory.
#[derive(Clone)]
pub(crate) enum Source {
    /// One file.
    File(Rc<TensorFile>),
    /// A folder of files, one for each part of the model; the one that was opened last is kept.
    Recording(RefCell<Option<(String, Rc<TensorFile>)>>),
    /// What was put together of other files.
    Memory(Rc<BTreeMap<String, Array>>),
}

impl Source {
    /// A folder of files, none of which is open.
    pub(crate) fn recording() -> Self {
        Self::Recording(RefCell::new(None))
    }

    /// The tensor of this name, if there is one. `path` is the file or folder.
    ///
    /// # Errors
    /// When a file is malformed.
    pub(crate) fn find(&self, path: &Path, name: &str) -> Result<Option<Found>, TraceError> {
        let file = match self {
            Self::Memory(tensors) => return Ok(tensors.get(name).cloned().map(Found::Memory)),
            Self::File(file) => Rc::clone(file),
            Self::Recording(opened) => {
                let part = part_of(name);
                let mut opened = opened.borrow_mut();
                match &*opened {
                    Some((known, file)) if *known == part => Rc::clone(file),
                    _ => {
                        let path = path.join(format!("{part}.safetensors"));
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
        Ok(file.has(name).then(|| Found::File(file, name.into())))
    }

    /// The names of all tensors, in order; none of a recording's.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::File(file) => file.names(),
            Self::Memory(tensors) => tensors.keys().cloned().collect(),
            Self::Recording(_) => Vec::new(),
        }
    }

    /// The files beside the tensors that hold none, in a folder of `.npy` files.
    pub(crate) fn others(&self) -> &[String] {
        match self {
            Self::File(file) => file.others(),
            Self::Recording(_) | Self::Memory(_) => &[],
        }
    }
}

/// Where a tensor was found.
pub(crate) enum Found {
    /// In a file, under a name.
    File(Rc<TensorFile>, String),
    Memory(Array),
}

impl Found {
    pub(crate) fn shape(&self) -> Result<Vec<usize>, TraceError> {
        match self {
            Self::File(file, name) => file.shape(name),
            Self::Memory(array) => Ok(array.shape.clone()),
        }
    }

    /// The tensor, whose values need not be finite.
    pub(crate) fn read_any(self) -> Result<Array, TraceError> {
        match self {
            Self::File(file, name) => file.read_any(&name),
            Self::Memory(array) => Ok(array),
        }
    }

    pub(crate) fn read(self) -> Result<Array, TraceError> {
        match self {
            Self::File(file, name) => file.read(&name),
            Self::Memory(array) => Ok(array),
        }
    }
}
