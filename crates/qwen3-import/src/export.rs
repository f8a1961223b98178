//! Models to checkpoints as Hugging Face lays them out.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::DType;
use burn_store::burn_pack;
use qwen3_checkpoint::{NewCheckpoint, NewTensor, SHARD_BYTES};
use qwen3_model::{EMBEDDING, Extent, HEAD, Qwen3};

use crate::ImportError;
use crate::stored::{self, bytes};

/// Writes `model` to the folder `dir` as a checkpoint in Hugging Face's layout, its weights cast to `dtype` (f32, f16 or
/// bf16): `config.json` and `model.safetensors`, or shards and `model.safetensors.index.json` where there are more than
/// 5 GB. `AutoModelForCausalLM.from_pretrained(dir)` and [`load`](crate::load) read it; one without a head
/// `AutoModel.from_pretrained(dir)`.
///
/// Keys are the official ones, with one tensor for each expert. An adapter on the model is merged into what is written
/// ([`merge_adapter`](crate::merge_adapter)). The folder appears when it is complete. Needs memory for one tensor
/// besides the model.
///
/// ```no_run
/// # fn main() -> Result<(), qwen3_import::ImportError> {
/// use burn::tensor::{DType, Device};
/// let model = qwen3_import::load_record("qwen3.bpk", &Device::default(), DType::F32)?;
/// qwen3_import::save_checkpoint(&model, "my-qwen3", DType::BF16)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When `dir` is there and not an empty folder, or cannot be written; when `dtype` is another, or a weight does not stay
/// finite in it.
pub fn save_checkpoint(model: &Qwen3, dir: impl AsRef<Path>, dtype: DType) -> Result<(), ImportError> {
    save_checkpoint_with_texts(model, dir, dtype, &BTreeMap::new())
}

/// [`save_checkpoint`] with other files beside the weights, by their names: `tokenizer.json` and such. Of a `config.json`
/// among them the ids of special tokens are kept, all else the model says itself.
///
/// # Errors
/// As [`save_checkpoint`], and when a name is not that of a file in the folder.
pub fn save_checkpoint_with_texts(
    model: &Qwen3,
    dir: impl AsRef<Path>,
    dtype: DType,
    texts: &BTreeMap<String, String>,
) -> Result<(), ImportError> {
    save(model, dir.as_ref(), dtype, texts, SHARD_BYTES)
}

fn save(
    model: &Qwen3,
    dir: &Path,
    dtype: DType,
    texts: &BTreeMap<String, String>,
    shard_bytes: usize,
) -> Result<(), ImportError> {
    let precision = stored::precision(dtype, "a checkpoint")?;
    let mut blocks = BTreeMap::<String, Vec<_>>::new();
    // In the order of blocks, which are numbered.
    for tensor in stored::tensors(model, precision) {
        let key = [EMBEDDING, HEAD]
            .into_iter()
            .find(|key| tensor.name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
        blocks.entry(key.unwrap_or(&tensor.name).to_string()).or_default().push(tensor);
    }
    let tensors = blocks.into_iter().map(|(key, blocks)| joined(key, blocks)).collect();
    let (config, extent) = (&model.config, Extent::of(model.head().is_some()));
    Ok(NewCheckpoint { config, extent, precision, texts, tensors, shard_bytes }.write(dir)?)
}

/// The tensor `key`, whose rows are in these blocks.
fn joined<'a>(key: String, blocks: Vec<burn_pack::Tensor>) -> NewTensor<'a> {
    let rows = blocks.iter().map(|block| block.shape[0]).sum();
    let shape = std::iter::once(rows).chain(blocks[0].shape[1..].iter().copied()).collect();
    let all = move |file: &Path| {
        let mut all = Vec::with_capacity(blocks.iter().map(burn_pack::Tensor::byte_len).sum());
        for block in &blocks {
            all.extend_from_slice(&bytes(block, file)?);
        }
        Ok(all)
    };
    NewTensor { key, shape, bytes: Box::new(all) }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::fs;

    use burn::tensor::Device;
    use qwen3_model::{Qwen3Config, RandomWeights};
    use serde_json::{Value, json};

    use super::*;
    use crate::Checkpoint;

    /// What is too much for one file goes to several, and an index says where.
    #[test]
    fn shards_are_no_larger_than_they_may_be() {
        let config = Qwen3Config::tiny();
        let model = Qwen3::build(&mut RandomWeights::new(3, &Device::flex(), DType::F32), &config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("model");
        let largest =
            config.weights().map(|weight| 4 * weight.shape.iter().product::<usize>()).max().unwrap();
        save(&model, &dir, DType::F32, &BTreeMap::new(), largest).unwrap();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        checkpoint.check(Extent::Whole).unwrap();
        let mut shards = BTreeMap::<_, usize>::new();
        for entry in checkpoint.tensors().into_values() {
            *shards.entry(entry.file).or_default() += 4 * entry.shape.iter().product::<usize>();
        }
        assert!(shards.len() > 2 && shards.values().all(|bytes| *bytes <= largest), "{shards:?}");
        let index: Value =
            serde_json::from_slice(&fs::read(dir.join("model.safetensors.index.json")).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], json!(4 * config.num_parameters()));
        assert!(!dir.join("model.safetensors").exists());
    }
}
