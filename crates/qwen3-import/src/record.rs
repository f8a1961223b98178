use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_store::burn_pack;
use half::{bf16, f16};
use qwen3_checkpoint::CheckpointError;
use qwen3_model::{Extent, PlacedSource, Precision, Qwen3, VocabMatrix, WeightSource};
use qwen3_record::{CONFIG_KEY, Checksums, RecordFile, TEXT_PREFIX, is_of_head, malformed};

use crate::ImportError;
use crate::loader::Reading;
use crate::stored;
use crate::weight::{Value, weight};

/// Writes `model` to a Burn record (Burnpack, `.bpk`) at `file`, its weights cast to `dtype` (f32, f16
/// or bf16), with its config in the record's metadata. An existing file is replaced.
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

/// A [`WeightSource`] over the tensors of a record, each taken once.
pub(crate) struct RecordSource<'a> {
    record: RecordFile,
    tensors: BTreeMap<String, burn_pack::Tensor>,
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
        let meant = |tensor: &&burn_pack::Tensor| extent == Extent::Whole || !is_of_head(&tensor.name);
        let tensors = record.headers().iter().filter(meant);
        let tensors = tensors.map(|tensor| (tensor.name.clone(), tensor.clone())).collect();
        Self { record, tensors, device, precision, reading }
    }

    /// Fails when a tensor was not taken.
    pub fn all_used(self) -> Result<(), CheckpointError> {
        match self.tensors.into_keys().next() {
            Some(key) => Err(CheckpointError::UnusedKey { file: self.record.path().into(), key }),
            None => Ok(()),
        }
    }

    /// The values of a tensor, read, checked and converted piece by piece.
    fn read<T: Value>(&self, tensor: &burn_pack::Tensor) -> Result<TensorData, CheckpointError> {
        weight(&tensor.shape.to_vec(), |values: &mut [T]| {
            let mut not_finite = None;
            // Damage, which is an error of reading, says more than what it led to.
            self.record.read(tensor, |first, stored, part| {
                let values = &mut values[first..][..part.len() / stored.bytes()];
                if let Err(bad) = T::decode(part, stored, values) {
                    not_finite.get_or_insert((first + bad.index, bad.value));
                }
            })?;
            not_finite.map_or(Ok(()), |(index, value)| {
                let (file, key) = (self.record.path().into(), tensor.name.clone());
                Err(CheckpointError::NonFinite { file, key, index, value, dtype: T::PRECISION })
            })
        })
    }
}

impl WeightSource for RecordSource<'_> {
    type Error = ImportError;

    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, ImportError> {
        let (file, key) = (self.record.path().to_path_buf(), key.to_string());
        let Some(tensor) = self.tensors.remove(&key) else {
            return Err(CheckpointError::MissingKey { file, key }.into());
        };
        if tensor.shape[..] != shape {
            let (expected, found) = (shape.into(), tensor.shape.to_vec());
            return Err(CheckpointError::Shape { file, key, expected, found }.into());
        }
        let data = match self.precision {
            Precision::F32 => self.read::<f32>(&tensor),
            Precision::F16 => self.read::<f16>(&tensor),
            Precision::BF16 => self.read::<bf16>(&tensor),
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
