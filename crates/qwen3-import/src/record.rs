use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_std::Reader;
use burn_store::burn_pack;
use half::{bf16, f16};
use qwen3_checkpoint::{CheckpointError, PIECE, open_regular};
use qwen3_model::{
    Extent, HEAD, PlacedSource, Precision, Qwen3, Qwen3Config, VocabMatrix, WeightSource, precision_of,
};

use crate::ImportError;
use crate::checksums::Checksums;
use crate::loader::Reading;
use crate::stored::{self, is_of_head};
use crate::weight::{Value, weight};

/// Where a record keeps its model's `config.json`.
const CONFIG_KEY: &str = "config.json";
/// What the names of other texts begin with in the metadata.
const TEXT_PREFIX: &str = "file:";

/// Writes `model` to a Burn record (Burnpack, `.bpk`) at `file`, its weights cast to `dtype` (f32, f16
/// or bf16), with its config in the record's metadata. An existing file is replaced.
///
/// The record is written beside `file` and renamed, so that a failure leaves what was there. Needs
/// memory for one tensor besides the model. Checksums of tensors and texts go into the metadata, which stands before
/// the tensors, so that each is taken from the device twice. An adapter on the model is merged into what is written
/// ([`merge_adapter`](crate::merge_adapter)), which takes memory for the weights that it changes.
///
/// # Errors
/// When the file cannot be written, `dtype` is another, or a weight does not stay finite in it.
pub fn save_record(model: &Qwen3, file: impl AsRef<Path>, dtype: DType) -> Result<(), ImportError> {
    save_record_with_texts(model, file, dtype, &BTreeMap::new())
}

/// [`save_record`] with other files of the checkpoint inside, by their names: `tokenizer.json` and such, so
/// that the record is all that is needed to generate text. [`RecordFile::text`] gives them back.
///
/// # Errors
/// As [`save_record`].
pub fn save_record_with_texts(
    model: &Qwen3,
    file: impl AsRef<Path>,
    dtype: DType,
    texts: &BTreeMap<String, String>,
) -> Result<(), ImportError> {
    let file = file.as_ref();
    let precision = stored::precision(dtype, "a record")?;
    let tensors = stored::tensors(model, precision);
    let config = model.config.to_json();
    let mut metadata = BTreeMap::from([(CONFIG_KEY.to_string(), config.as_str())]);
    metadata.extend(texts.iter().map(|(name, text)| (format!("{TEXT_PREFIX}{name}"), text.as_str())));
    let mut checksums = Checksums::default();
    for (key, text) in &metadata {
        checksums.insert(key, text.as_bytes());
    }
    for tensor in &tensors {
        let bytes = stored::bytes(tensor, file)?;
        checksums.insert(&tensor.name, &bytes);
    }
    let writer =
        burn_pack::Writer::new(tensors).with_metadata("format", "burnpack").with_metadata("producer", "burn");
    metadata
        .iter()
        .fold(writer, |writer, (key, text)| writer.with_metadata(key, text))
        .with_metadata(Checksums::KEY, &checksums.to_string())
        .auto_extension(false)
        .overwrite(true)
        .write_to_file(file)
        .map_err(|error| match error {
            burn_pack::Error::IoError(message) => {
                CheckpointError::Io { file: file.into(), source: io::Error::other(message) }.into()
            }
            other => malformed(file, other).into(),
        })
}

/// An open record: its config, its texts and the headers of its tensors.
///
/// Opening reads no weights.
///
/// ```
/// # #[cfg(feature = "flex")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/gqa-tied");
/// # let out = tempfile::tempdir()?;
/// # let file = out.path().join("model.bpk");
/// use burn::tensor::{DType, Device};
/// use qwen3_import::{RecordFile, load, load_record, save_record};
/// let device = Device::flex();
/// save_record(&load(folder, &device, DType::F32)?, &file, DType::BF16)?;
/// let record = RecordFile::open(&file)?; // headers and texts
/// assert!(record.has_head() && record.has_checksums());
/// let model = load_record(&file, &device, DType::F32)?;
/// assert_eq!(&model.config, record.config());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "flex"))]
/// # fn main() {}
/// ```
pub struct RecordFile {
    file: PathBuf,
    config: Qwen3Config,
    texts: BTreeMap<String, String>,
    tensors: Vec<burn_pack::Tensor>,
    checksums: Option<Checksums>,
}

impl RecordFile {
    /// Opens the record `file`.
    ///
    /// # Errors
    /// When the file is not a record of a Qwen3 model, is truncated, or has a text with another checksum than was
    /// written.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, ImportError> {
        let file = file.as_ref();
        let (_, length) = open_regular(file)?;
        let reader = burn_pack::Reader::from_file_exact(file).map_err(|error| malformed(file, error))?;
        let checksums = checksums(file, &reader)?;
        let config = reader
            .metadata()
            .get(CONFIG_KEY)
            .ok_or_else(|| malformed(file, "no config.json in the record's metadata"))?;
        let config = Qwen3Config::from_json(config)
            .map_err(|source| CheckpointError::Config { file: file.into(), source })?;
        let texts = reader.metadata().iter().filter_map(|(key, text)| {
            let name = key.strip_prefix(TEXT_PREFIX)?;
            Some((name.to_string(), text.clone()))
        });
        let texts = texts.collect();
        let tensors = reader.into_tensors().map_err(|error| malformed(file, error))?;
        // Each fits the file; tensors that share bytes could still unfold to any multiple of it.
        let bytes: u64 = tensors.iter().map(|tensor| tensor.byte_len() as u64).sum();
        if bytes > length {
            let reason = format!("{bytes} bytes of tensors in a file of {length} bytes: they overlap");
            return Err(malformed(file, reason).into());
        }
        Ok(Self { file: file.into(), config, texts, tensors, checksums })
    }

    /// Is there a head: the embedding, when it is tied, or one of its own?
    pub fn has_head(&self) -> bool {
        self.config.tie_word_embeddings || self.tensors.iter().any(|tensor| is_of_head(&tensor.name))
    }

    /// Checks that there is a [head](Self::has_head).
    ///
    /// # Errors
    /// [`CheckpointError::NoHead`].
    pub fn check_head(&self) -> Result<(), CheckpointError> {
        if self.has_head() {
            return Ok(());
        }
        Err(CheckpointError::NoHead { file: self.file.clone(), key: HEAD.into() })
    }

    /// Are there checksums in it, by which damage to weights is noticed?
    pub fn has_checksums(&self) -> bool {
        self.checksums.is_some()
    }

    /// The architecture of the model inside.
    pub fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// A file that was saved with the model, by its name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The dtype and the shape of every tensor, by its name in the record.
    pub fn tensors(&self) -> BTreeMap<String, (DType, Vec<usize>)> {
        let entry = |tensor: &burn_pack::Tensor| {
            let header = (tensor.dtype, tensor.shape.to_vec());
            (tensor.name.clone(), header)
        };
        self.tensors.iter().map(entry).collect()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

/// The checksums of a record, if it has any; fails when they are not of all that is in it, or a text has another.
fn checksums(file: &Path, reader: &burn_pack::Reader) -> Result<Option<Checksums>, CheckpointError> {
    let metadata = reader.metadata();
    let Some(text) = metadata.get(Checksums::KEY) else {
        return Ok(None);
    };
    let checksums =
        Checksums::parse(text).ok_or_else(|| malformed(file, "its checksums are not readable"))?;
    let ours = |key: &&String| *key == CONFIG_KEY || key.starts_with(TEXT_PREFIX);
    let texts = metadata.keys().filter(ours).map(String::as_str);
    if let Some(name) = checksums.odd_one(texts.clone().chain(reader.tensor_names())) {
        return Err(malformed(file, format!("`{name}` has no checksum, or is missing")));
    }
    for key in texts {
        checksums.check(key, metadata[key].as_bytes()).map_err(|reason| malformed(file, reason))?;
    }
    Ok(Some(checksums))
}

fn malformed(file: &Path, reason: impl ToString) -> CheckpointError {
    CheckpointError::Malformed { file: file.into(), reason: reason.to_string() }
}

/// A [`WeightSource`] over the tensors of a record, each taken once.
pub(crate) struct RecordSource<'a> {
    file: PathBuf,
    tensors: BTreeMap<String, burn_pack::Tensor>,
    checksums: Option<Checksums>,
    device: Device,
    precision: Precision,
    reading: Reading<'a>,
}

impl<'a> RecordSource<'a> {
    /// The tensors of a record on a device in a dtype, those of the head where it is meant.
    pub fn new(
        record: RecordFile,
        extent: Extent,
        (device, precision): (Device, Precision),
        reading: Reading<'a>,
    ) -> Self {
        let RecordFile { file, checksums, tensors, .. } = record;
        let tensors =
            tensors.into_iter().filter(|tensor| extent == Extent::Whole || !is_of_head(&tensor.name));
        let tensors = tensors.map(|tensor| (tensor.name.clone(), tensor)).collect();
        Self { file, tensors, checksums, device, precision, reading }
    }

    /// Fails when a tensor was not taken.
    pub fn all_used(self) -> Result<(), CheckpointError> {
        match self.tensors.into_keys().next() {
            Some(key) => Err(CheckpointError::UnusedKey { file: self.file, key }),
            None => Ok(()),
        }
    }

    /// The values of a tensor of a known dtype, read, checked and converted piece by piece.
    fn read<T: Value>(&self, key: &str, tensor: burn_pack::Tensor) -> Result<TensorData, CheckpointError> {
        let unreadable = |reason: &dyn Display| malformed(&self.file, format!("tensor `{key}`: {reason}"));
        let (_, dtype, shape, _, bytes) = tensor.into_parts().map_err(|error| unreadable(&error))?;
        let stored = precision_of(dtype).expect("the dtype was checked");
        let (found, expected) = (bytes.len(), shape.num_elements() * stored.bytes());
        if found != expected {
            return Err(unreadable(&format!("{found} bytes where its shape takes {expected}")));
        }
        weight(&shape.to_vec(), |values: &mut [T]| {
            let mut checksum = crc32fast::Hasher::new();
            let mut not_finite = None;
            for (piece, values) in values.chunks_mut(PIECE).enumerate() {
                let first = piece * PIECE;
                let (start, length) = (first * stored.bytes(), values.len() * stored.bytes());
                let part = bytes.view(start, start + length);
                let part = part.map_err(|error| unreadable(&format!("{error:?}")))?;
                let part = part.read(Reader::new()).map_err(|error| unreadable(&error))?;
                checksum.update(part);
                if let Err(bad) = T::decode(part, stored, values) {
                    not_finite.get_or_insert((first + bad.index, bad.value));
                }
            }
            // Damage says more than what it led to.
            if let Some(checksums) = &self.checksums {
                let found = checksum.finalize();
                checksums
                    .compare(key, found)
                    .map_err(|reason| malformed(&self.file, format!("tensor {reason}")))?;
            }
            not_finite.map_or(Ok(()), |(index, value)| {
                let (file, key, dtype) = (self.file.clone(), key.into(), T::PRECISION);
                Err(CheckpointError::NonFinite { file, key, index, value, dtype })
            })
        })
    }
}

impl WeightSource for RecordSource<'_> {
    type Error = ImportError;

    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, ImportError> {
        let (file, key) = (self.file.clone(), key.to_string());
        let Some(tensor) = self.tensors.remove(&key) else {
            return Err(CheckpointError::MissingKey { file, key }.into());
        };
        if tensor.shape[..] != shape {
            let (expected, found) = (shape.into(), tensor.shape.to_vec());
            return Err(CheckpointError::Shape { file, key, expected, found }.into());
        }
        if precision_of(tensor.dtype).is_none() {
            let dtype = format!("{:?}", tensor.dtype);
            return Err(CheckpointError::TensorDType { file, key, dtype }.into());
        }
        let data = match self.precision {
            Precision::F32 => self.read::<f32>(&key, tensor),
            Precision::F16 => self.read::<f16>(&key, tensor),
            Precision::BF16 => self.read::<bf16>(&key, tensor),
        }?;
        self.reading.read(&key, shape.iter().product());
        let dtype = data.dtype();
        Ok(Tensor::from_data(data, (&self.device, dtype)))
    }

    /// The blocks of a vocabulary-sized matrix are tensors of their own, `{key}.0`, `{key}.1`, ...
    fn rows(
        &mut self,
        key: &str,
        [_, columns]: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Tensor<2>, ImportError> {
        let block = rows.start / VocabMatrix::rows_per_block(columns);
        self.tensor(&format!("{key}.{block}"), [rows.len(), columns])
    }
}

impl PlacedSource for RecordSource<'_> {
    fn place(&mut self, device: &Device) {
        self.device = device.clone();
    }
}
