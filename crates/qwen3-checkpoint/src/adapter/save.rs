//! Adapters to a folder that PEFT reads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::key::{AdapterKey, Half};
use super::{Adapter, CONFIG, WEIGHTS};
use crate::CheckpointError;

impl Adapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` (f32) to the folder `dir`, which is made where it
    /// is not there; `PeftModel.from_pretrained(model, dir)` reads it. Files of before are replaced.
    ///
    /// Both files are written beside their places first, and then renamed: a failure leaves what was there.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(|source| CheckpointError::Io { file: dir.into(), source })?;
        let files = [(WEIGHTS, self.weights()), (CONFIG, self.config().to_json().into_bytes())];
        let unfinished = |name: &str| dir.join(format!(".{name}.{}", std::process::id()));
        let write = || {
            for (name, bytes) in &files {
                let file = unfinished(name);
                fs::write(&file, bytes).map_err(|source| CheckpointError::Io { file, source })?;
            }
            for (name, _) in &files {
                let file = dir.join(name);
                fs::rename(unfinished(name), &file).map_err(|source| CheckpointError::Io { file, source })?;
            }
            Ok(())
        };
        let written = write();
        if written.is_err() {
            for (name, _) in &files {
                let _: io::Result<()> = fs::remove_file(unfinished(name));
            }
        }
        written
    }

    /// The bytes of `adapter_model.safetensors`.
    fn weights(&self) -> Vec<u8> {
        let mut tensors = Vec::new();
        for (layer, target, factors) in self.all() {
            let [out, input] = factors.shape();
            for (half, values, shape) in
                [(Half::A, &factors.a, [factors.rank, input]), (Half::B, &factors.b, [out, factors.rank])]
            {
                let key = AdapterKey { layer, target, half }.spelled();
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((key, shape, bytes));
            }
        }
        let views: BTreeMap<&str, TensorView> = tensors
            .iter()
            .map(|(key, shape, bytes)| {
                let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
                (key.as_str(), view.expect("as many bytes as values"))
            })
            .collect();
        let metadata = [("format".to_string(), "pt".to_string())].into();
        serialize(views, Some(metadata)).expect("finite sizes")
    }
}
