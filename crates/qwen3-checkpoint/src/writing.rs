//! Checkpoints in Hugging Face's layout, written.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use qwen3_config::{Extent, Precision, Qwen3Config};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde_json::{Map, Value, json};

use crate::{Checkpoint, CheckpointError};

/// Most bytes of a file's tensors, unless one tensor has more: what Transformers 4 takes.
pub const SHARD_BYTES: usize = 5_000_000_000;
/// What a checkpoint's weights are called when they are in one file.
const WEIGHTS: &str = "model.safetensors";
/// What lists them when they are in several.
const INDEX: &str = "model.safetensors.index.json";
/// What describes the architecture.
const CONFIG: &str = "config.json";
/// Fields of a `config.json` that are about text, which Transformers generates with.
const OF_TEXT: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// A tensor that is to be written.
pub struct NewTensor<'a> {
    /// Its official key.
    pub key: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values in the checkpoint's precision, row-major and little-endian, when their turn comes. The file is the one
    /// that they go to, for errors.
    pub bytes: ValueBytes<'a>,
}

/// Gives the bytes of a tensor's values.
pub type ValueBytes<'a> = Box<dyn Fn(&Path) -> Result<Vec<u8>, CheckpointError> + 'a>;

/// A checkpoint that is to be written.
pub struct NewCheckpoint<'a> {
    /// The architecture.
    pub config: &'a Qwen3Config,
    /// Without a head, keys have no prefix, as those of Transformers' decoder.
    pub extent: Extent,
    /// What the weights are in.
    pub precision: Precision,
    /// Other files, by their names: `tokenizer.json` and such. Of a `config.json` the ids of special tokens are kept.
    pub texts: &'a BTreeMap<String, String>,
    /// The weights, in the order in which they are written.
    pub tensors: Vec<NewTensor<'a>>,
    /// Most bytes of a file's tensors, unless one tensor has more.
    pub shard_bytes: usize,
}

impl NewCheckpoint<'_> {
    /// Writes the folder `dir`, which appears when it is complete: `config.json` and `model.safetensors`, or shards and
    /// `model.safetensors.index.json` where there are more than `shard_bytes`. Needs memory for one tensor.
    ///
    /// # Errors
    /// When `dir` is there and not an empty folder, or cannot be written; when a text's name is not that of a file in the
    /// folder; those of the tensors.
    pub fn write(self, dir: &Path) -> Result<(), CheckpointError> {
        check_names(dir, self.texts)?;
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
        for (name, text) in self.texts.iter().filter(|(name, _)| *name != CONFIG) {
            write(name, text)?;
        }
        write(CONFIG, &self.config_text())?;
        if let Some(index) = self.weights((&folder, dir))? {
            write(INDEX, &format!("{index:#}\n"))?;
        }
        // An empty folder may be in the place, which not every system renames over.
        let _: io::Result<()> = fs::remove_dir(dir);
        fs::rename(&folder, dir).map_err(|error| unwritable(dir, error))
    }

    fn config_text(&self) -> String {
        let config = Qwen3Config { dtype: Some(self.precision), ..self.config.clone() };
        let given =
            self.texts.get(CONFIG).and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let given = given.unwrap_or_default();
        let mut object: Map<String, Value> =
            serde_json::from_str(&config.to_json_of(self.extent)).expect("a config's JSON");
        let of_text =
            OF_TEXT.into_iter().filter_map(|field| Some((field.to_string(), given.get(field)?.clone())));
        object.extend(of_text);
        format!("{:#}\n", Value::Object(object))
    }

    /// Writes the tensors to one file or several in the first folder, which will be the second, and gives the index of
    /// several.
    fn weights(self, (folder, dir): (&Path, &Path)) -> Result<Option<Value>, CheckpointError> {
        let Self { extent, precision, shard_bytes, .. } = self;
        let mut shards = vec![(0, Vec::new())];
        let mut total = 0;
        for tensor in self.tensors {
            let bytes = tensor.shape.iter().product::<usize>() * precision.bytes();
            total += bytes;
            match shards.last_mut() {
                Some((filled, shard)) if shard.is_empty() || *filled + bytes <= shard_bytes => {
                    *filled += bytes;
                    shard.push(tensor);
                }
                _ => shards.push((bytes, vec![tensor])),
            }
        }
        let count = shards.len();
        let mut places = Map::new();
        for (shard, (_, tensors)) in shards.into_iter().enumerate() {
            let name = match count {
                1 => WEIGHTS.to_string(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", shard + 1),
            };
            let (file, failed) = (dir.join(&name), RefCell::new(None));
            let views = tensors.into_iter().map(|tensor| {
                let key = match extent {
                    Extent::Whole => &tensor.key[..],
                    Extent::Encoder => tensor.key.strip_prefix("model.").unwrap_or(&tensor.key),
                };
                places.insert(key.into(), json!(name));
                (key.to_string(), Pending { tensor, precision, file: &file, failed: &failed })
            });
            let views: Vec<_> = views.collect();
            let metadata = [("format".to_string(), "pt".to_string())].into();
            let written = serialize_to_file(views, Some(metadata), &folder.join(&name));
            if let Some(error) = failed.take() {
                return Err(error);
            }
            written.map_err(|error| unwritable(&file, io::Error::other(error)))?;
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
        Ok((count > 1).then_some(index))
    }
}

impl Checkpoint {
    /// Writes the whole model to the folder `dir` as a checkpoint in Hugging Face's layout, its weights in `precision` and an
    /// adapter left out, with the [texts](Self::texts) that are inside of the weights. In f32, what GGUF's and FP8's numbers
    /// are is kept exactly.
    ///
    /// # Errors
    /// Those of [`check`](Self::check) and [`NewCheckpoint::write`]; a value that does not stay finite.
    pub fn save(&self, dir: impl AsRef<Path>, precision: Precision) -> Result<(), CheckpointError> {
        let extent = Extent::of(self.has_head());
        self.check(extent)?;
        let texts = self.texts()?;
        let weights = self.config().weights().filter(|weight| extent.holds(&weight.key));
        let tensors = weights.map(|weight| {
            let (key, shape) = (weight.key.clone(), weight.shape.clone());
            let bytes = Box::new(move |_: &Path| self.bytes(&weight.key, &weight.shape, precision));
            NewTensor { key, shape, bytes }
        });
        let tensors = tensors.collect();
        let config = self.config();
        NewCheckpoint { config, extent, precision, texts: &texts, tensors, shard_bytes: SHARD_BYTES }
            .write(dir.as_ref())
    }
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

/// A tensor whose turn has not come.
struct Pending<'a> {
    tensor: NewTensor<'a>,
    precision: Precision,
    /// Which file it goes to, and the first error of those that do: [`View::data`] gives none.
    file: &'a Path,
    failed: &'a RefCell<Option<CheckpointError>>,
}

impl View for Pending<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::F16 => Dtype::F16,
            Precision::BF16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if self.failed.borrow().is_some() {
            return vec![0; self.data_len()].into();
        }
        match (self.tensor.bytes)(self.file) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                vec![0; self.data_len()].into()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.shape.iter().product::<usize>() * self.precision.bytes()
    }
}
