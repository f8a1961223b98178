//! Models to checkpoints as Hugging Face lays them out.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use burn::tensor::DType;
use burn_store::burn_pack;
use qwen3_checkpoint::CheckpointError;
use qwen3_model::{EMBEDDING, Extent, HEAD, Precision, Qwen3, Qwen3Config};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Map, Value, json};

use crate::ImportError;
use crate::stored::{self, bytes};

/// Most bytes of a file's tensors, unless one tensor has more: what Transformers 4 takes.
const SHARD_BYTES: usize = 5_000_000_000;
/// What a checkpoint's weights are called when they are in one file.
const WEIGHTS: &str = "model.safetensors";
/// What lists them when they are in several.
const INDEX: &str = "model.safetensors.index.json";
/// What describes the architecture.
const CONFIG: &str = "config.json";
/// Fields of a `config.json` that are about text, which Transformers generates with.
const OF_TEXT: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

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
    check_names(dir, texts)?;
    check_vacant(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| unwritable(parent, error))?;
    let unfinished = tempfile::Builder::new().prefix(".qwen3-export-").tempdir_in(parent);
    let unfinished = unfinished.map_err(|error| unwritable(parent, error))?;
    // Temporary folders are their owner's alone; this one is as readable as what else is made there.
    let folder = unfinished.path().join("model");
    fs::create_dir(&folder).map_err(|error| unwritable(&folder, error))?;
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| unwritable(&dir.join(name), error))
    };
    for (name, text) in texts.iter().filter(|(name, _)| *name != CONFIG) {
        write(name, text)?;
    }
    let extent = Extent::of(model.head().is_some());
    write(CONFIG, &config(&model.config, extent, precision, texts.get(CONFIG)))?;
    let index = Weights::of(model, extent, precision).write((&folder, dir), shard_bytes)?;
    if let Some(index) = index {
        write(INDEX, &format!("{index:#}\n"))?;
    }
    // An empty folder may be in the place, which not every system renames over.
    let _: io::Result<()> = fs::remove_dir(dir);
    Ok(fs::rename(&folder, dir).map_err(|error| unwritable(dir, error))?)
}

fn unwritable(file: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { file: file.into(), source }
}

/// Checks that nothing is in the way of a checkpoint in the folder `dir`: that it is not there, or empty.
///
/// # Errors
/// When it is not.
pub fn check_vacant(dir: &Path) -> Result<(), CheckpointError> {
    let occupied = |reason| Err(CheckpointError::Malformed { file: dir.into(), reason });
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            occupied("is a file, where a folder is to be made".into())
        }
        Err(error) => Err(unwritable(dir, error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => occupied("is not empty; a checkpoint is written to a folder of its own".into()),
        },
    }
}

/// Checks that every text is a file in the folder.
fn check_names(dir: &Path, texts: &BTreeMap<String, String>) -> Result<(), CheckpointError> {
    let plain = |name: &str| Path::new(name).file_name().is_some_and(|file| file == name);
    match texts.keys().find(|name| !plain(name)) {
        None => Ok(()),
        Some(name) => Err(CheckpointError::OutsideDirectory {
            file: dir.into(),
            key: name.clone(),
            target: name.clone(),
        }),
    }
}

/// The `config.json` of a model whose weights are in `precision`; `given` is what it came with.
fn config(config: &Qwen3Config, extent: Extent, precision: Precision, given: Option<&String>) -> String {
    let config = Qwen3Config { dtype: Some(precision), ..config.clone() };
    let given = given.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let given = given.unwrap_or_default();
    let mut object: Map<String, Value> =
        serde_json::from_str(&config.to_json_of(extent)).expect("a config's JSON");
    let of_text =
        OF_TEXT.into_iter().filter_map(|field| Some((field.to_string(), given.get(field)?.clone())));
    object.extend(of_text);
    format!("{:#}\n", Value::Object(object))
}

/// A tensor of the checkpoint: the blocks that it is made of.
struct Weight<'a> {
    blocks: Vec<burn_pack::Tensor>,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Which file they go to, for errors, and the first of those: [`View::data`] gives none.
    file: &'a Path,
    failed: &'a RefCell<Option<CheckpointError>>,
}

impl View for Weight<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut data = Vec::with_capacity(self.data_len());
        for block in &self.blocks {
            match bytes(block, self.file) {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(error) => {
                    self.failed.borrow_mut().get_or_insert(error);
                }
            }
        }
        data.resize(self.data_len(), 0);
        data.into()
    }

    fn data_len(&self) -> usize {
        self.blocks.iter().map(burn_pack::Tensor::byte_len).sum()
    }
}

/// The tensors of a model by their keys, each in one or more blocks.
struct Weights {
    blocks: BTreeMap<String, Vec<burn_pack::Tensor>>,
    dtype: Dtype,
}

impl Weights {
    fn of(model: &Qwen3, extent: Extent, precision: Precision) -> Self {
        let mut blocks = BTreeMap::<_, Vec<_>>::new();
        // In the order of blocks, which are numbered.
        for tensor in stored::tensors(model, precision) {
            let key = [EMBEDDING, HEAD]
                .into_iter()
                .find(|key| tensor.name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
            let key = key.unwrap_or(&tensor.name);
            // A model without a head is Transformers' decoder, whose keys have no prefix.
            let key = match extent {
                Extent::Whole => key,
                Extent::Encoder => key.strip_prefix("model.").unwrap_or(key),
            };
            blocks.entry(key.to_string()).or_default().push(tensor);
        }
        let dtype = match precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::BF16 => Dtype::BF16,
        };
        Self { blocks, dtype }
    }

    /// Writes them to one file or several in the first folder, which will be the second, and gives the index of
    /// several.
    fn write(self, (folder, dir): (&Path, &Path), shard_bytes: usize) -> Result<Option<Value>, ImportError> {
        let dtype = self.dtype;
        let mut shards = vec![(0, Vec::new())];
        let mut total = 0;
        for (key, blocks) in self.blocks {
            let bytes: usize = blocks.iter().map(burn_pack::Tensor::byte_len).sum();
            total += bytes;
            match shards.last_mut() {
                Some((filled, shard)) if shard.is_empty() || *filled + bytes <= shard_bytes => {
                    *filled += bytes;
                    shard.push((key, blocks));
                }
                _ => shards.push((bytes, vec![(key, blocks)])),
            }
        }
        let count = shards.len();
        let mut places = Map::new();
        for (shard, (_, weights)) in shards.into_iter().enumerate() {
            let name = match count {
                1 => WEIGHTS.to_string(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
            };
            let (file, failed) = (dir.join(&name), RefCell::new(None));
            let views = weights.into_iter().map(|(key, blocks)| {
                places.insert(key.clone(), json!(name));
                let rows = blocks.iter().map(|block| block.shape[0]).sum();
                let shape = std::iter::once(rows).chain(blocks[0].shape[1..].iter().copied()).collect();
                (key, Weight { blocks, dtype, shape, file: &file, failed: &failed })
            });
            let views: Vec<_> = views.collect();
            let metadata = [("format".to_string(), "pt".to_string())].into();
            let written = serialize_to_file(views, Some(metadata), &folder.join(&name));
            if let Some(error) = failed.take() {
                return Err(error.into());
            }
            written.map_err(|error| unwritable(&file, io::Error::other(error)))?;
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
        Ok((count > 1).then_some(index))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;
    use qwen3_model::RandomWeights;

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
        let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], json!(4 * config.num_parameters()));
        assert!(!dir.join(WEIGHTS).exists());
    }
}
