//! Activations on disk while a verification runs: a file for each part of the model and mode, so that no
//! process holds more of them than one layer's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::TraceError;
use crate::names::layer_of;

/// Writes tensors into a folder, a part of the model at a time.
pub struct Recorder {
    folder: PathBuf,
}

impl Recorder {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(folder: &Path) -> Result<Self, TraceError> {
        std::fs::create_dir_all(folder).map_err(|error| TraceError::write(folder, error))?;
        Ok(Self { folder: folder.into() })
    }

    /// Writes tensors, each with its name and shape: all there are of their parts.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Result<(), TraceError> {
        let mut parts: HashMap<String, Vec<(String, TensorBytes)>> = HashMap::new();
        for (name, shape, values) in tensors {
            let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
            let part = parts.entry(part_of(&name)).or_default();
            part.push((name, TensorBytes { shape, bytes }));
        }
        for (part, tensors) in parts {
            let file = self.folder.join(format!("{part}.safetensors"));
            let views = tensors.iter().map(|(name, tensor)| {
                let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes);
                Ok((name, view?))
            });
            let written = views
                .collect::<Result<Vec<_>, _>>()
                .and_then(|views| safetensors::serialize_to_file(views, None, &file));
            written.map_err(|error| TraceError::write(&file, std::io::Error::other(error)))?;
        }
        Ok(())
    }
}

struct TensorBytes {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The part of the model that a tensor `mode/key` is of, with its mode: the name of its file.
pub(crate) fn part_of(name: &str) -> String {
    let (mode, key) = name.split_once('/').unwrap_or(("", name));
    match (layer_of(key), key) {
        (Some(layer), _) => format!("{mode}-layer_{layer:02}"),
        (None, "embedding_output") => format!("{mode}-embedding"),
        (None, _) => format!("{mode}-head"),
    }
}
