//! Weights by their keys, out of whatever holds them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use qwen3_checkpoint::{Checkpoint, CheckpointError, Encoding, LooseTensor, is_gguf};
use qwen3_config::{Extent, Precision, Qwen3Config};
use qwen3_record::{RecordFile, Tensor};

/// How the name of a record ends.
const RECORD_ENDS: &str = "bpk";

/// A checkpoint's weights: a folder in Hugging Face's layout, a record, or a GGUF file.
pub struct Source {
    config: Qwen3Config,
    format: &'static str,
    tensors: BTreeMap<String, SourceTensor>,
    files: Files,
}

enum Files {
    Checkpoint(Checkpoint),
    Record(RecordFile),
}

/// A tensor as it is stored.
pub struct SourceTensor {
    /// Its shape, whatever the config asks for.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub encoding: Encoding,
    parts: Parts,
}

enum Parts {
    Loose(LooseTensor),
    /// Of a record one after the other, each some rows.
    Blocks(Vec<Tensor>),
}

impl SourceTensor {
    /// How many values it has.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many a row has: all of a vector.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1).max(1)
    }
}

impl Source {
    /// Opens the weights at `path`. Reads headers alone.
    ///
    /// # Errors
    /// When there are none, a header lies, or the config is refused.
    pub fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|end| end == RECORD_ENDS) && path.is_file() {
            let record = RecordFile::open(path)?;
            let (config, tensors) = (record.config().clone(), of_record(&record)?);
            return Ok(Self { config, format: "record", tensors, files: Files::Record(record) });
        }
        ensure!(
            path.is_dir() || is_gguf(path),
            "{}: neither a checkpoint's folder nor a record (.bpk) nor a GGUF file",
            path.display()
        );
        let checkpoint = Checkpoint::open(path)?;
        let format = if path.is_dir() { "safetensors" } else { "gguf" };
        let loose = checkpoint.loose_tensors().into_iter().map(|tensor| {
            let (key, shape, encoding) = (tensor.key.clone(), tensor.shape.clone(), tensor.encoding.clone());
            (key, SourceTensor { shape, encoding, parts: Parts::Loose(tensor) })
        });
        let tensors = loose.collect();
        Ok(Self {
            config: checkpoint.config().clone(),
            format,
            tensors,
            files: Files::Checkpoint(checkpoint),
        })
    }

    /// Checks that every tensor of the config is there in its shape, as of what others are compared with has to be.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(&self, path: &Path) -> Result<()> {
        let extent =
            Extent::of(self.config.tie_word_embeddings || self.tensors.contains_key(qwen3_config::HEAD));
        if let Files::Checkpoint(checkpoint) = &self.files {
            return checkpoint.check(extent).context("the original is not sound");
        }
        for weight in self.config.weights().filter(|weight| extent.holds(&weight.key)) {
            let tensor = self.tensors.get(&weight.key);
            let missing = || format!("{}: tensor `{}` is missing", path.display(), weight.key);
            let shape = &tensor.with_context(missing)?.shape;
            ensure!(
                *shape == weight.shape,
                "{}: tensor `{}` has shape {shape:?}, expected {:?}",
                path.display(),
                weight.key,
                weight.shape
            );
        }
        Ok(())
    }

    /// The architecture that the weights claim to be of.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// `safetensors`, `record` or `gguf`.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// The tensors by their keys.
    pub fn tensors(&self) -> &BTreeMap<String, SourceTensor> {
        &self.tensors
    }

    /// All values of the tensor `key`, as they are: NaN too.
    ///
    /// # Errors
    /// When it is damaged, or stored as something that is not read.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn values(&self, key: &str) -> Result<Vec<f32>, CheckpointError> {
        let tensor = &self.tensors[key];
        let mut values = vec![0.0; tensor.values()];
        match (&self.files, &tensor.parts) {
            (Files::Checkpoint(checkpoint), Parts::Loose(loose)) => {
                checkpoint.loose_values(loose, 0, &mut values)?;
            }
            (Files::Record(record), Parts::Blocks(blocks)) => {
                let mut start = 0;
                for block in blocks {
                    record.read(block, |first, stored, bytes| {
                        let values = &mut values[start + first..][..bytes.len() / stored.bytes()];
                        qwen3_checkpoint::widen(bytes, stored, values);
                    })?;
                    start += block.shape.num_elements();
                }
            }
            _ => unreachable!("each source has its own tensors"),
        }
        Ok(values)
    }
}

/// The tensors of a record; those of a vocabulary-sized matrix are `{key}.0`, `{key}.1`, ...
fn of_record(record: &RecordFile) -> Result<BTreeMap<String, SourceTensor>> {
    let mut blocks: BTreeMap<String, BTreeMap<usize, Tensor>> = BTreeMap::new();
    for tensor in record.headers() {
        let numbered = tensor.name.rsplit_once('.').and_then(|(key, end)| Some((key, end.parse().ok()?)));
        let (key, number) = numbered.unwrap_or((&tensor.name, 0));
        blocks.entry(key.into()).or_default().insert(number, tensor.clone());
    }
    let mut tensors = BTreeMap::new();
    for (key, blocks) in blocks {
        let blocks: Vec<Tensor> = blocks.into_values().collect();
        let mut shape = blocks[0].shape.to_vec();
        let apart = || format!("{}: the blocks of `{key}` do not belong together", record.path().display());
        for block in &blocks[1..] {
            let alike = block.shape.get(1..) == shape.get(1..) && block.dtype == blocks[0].dtype;
            ensure!(alike && !shape.is_empty(), apart());
            shape[0] += block.shape[0];
        }
        let name = format!("{:?}", blocks[0].dtype);
        let precision = Precision::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&name));
        let encoding = precision.map_or(Encoding::Unread(name), Encoding::Plain);
        // A header could claim any number of values.
        let bytes: usize = blocks.iter().map(Tensor::byte_len).sum();
        let values = shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size));
        ensure!(values.is_some_and(|values| values <= bytes), apart());
        tensors.insert(key, SourceTensor { shape, encoding, parts: Parts::Blocks(blocks) });
    }
    Ok(tensors)
}
