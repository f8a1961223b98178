use std::borrow::Cow;
use std::path::Path;

use burn::tensor::{DType, Device};
use qwen3_checkpoint::Checkpoint;
use qwen3_model::{DeviceMap, Extent, ModelPart, Precision, Qwen3, Qwen3Config, precision_of};

use crate::record::RecordSource;
use crate::{CheckpointSource, ImportError, RecordFile};

/// How far a load has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor just read.
    pub key: &'a str,
    /// Values read so far.
    pub done: usize,
    /// Values to read in all.
    pub total: usize,
}

/// Whom to tell of every tensor read.
type Listener<'a> = &'a mut dyn FnMut(Progress);

/// Loads models: onto which devices, in which dtype, how much of them, and telling whom.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use burn::tensor::{DType, Device};
/// use qwen3_import::Loader;
/// use qwen3_model::{DeviceMap, DeviceMapFile, Extent, Precision};
/// let folder = "fixtures/checkpoints/gqa-tied";
/// // On one device, with a progress bar.
/// let mut bar = |progress: qwen3_import::Progress| eprint!("\r{} of {}", progress.done, progress.total);
/// let model = Loader::new(&Device::default(), DType::F32).progress(&mut bar).checkpoint(folder)?;
/// // On several.
/// let text = r#"{"devices": [{"device": "here", "layers": [0, 0]}, {"device": "there", "layers": [1, 2]}]}"#;
/// let config = qwen3_import::read_config(folder)?;
/// let names = DeviceMapFile::from_json(text)?.place(&config, Extent::Whole, Precision::F32, 1, 256)?;
/// let map: DeviceMap = names.try_map(|_name| Ok::<_, String>(Device::default()))?;
/// let model = Loader::on(&map, DType::F32).checkpoint(folder)?;
/// // Without a head: an encoder.
/// let encoder = Loader::new(&Device::default(), DType::F32).extent(Extent::Encoder).checkpoint(folder)?;
/// # Ok(())
/// # }
/// ```
pub struct Loader<'a> {
    place: Place<'a>,
    dtype: DType,
    extent: Extent,
    progress: Option<Listener<'a>>,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    One(&'a Device),
    Map(&'a DeviceMap),
}

impl<'a> Loader<'a> {
    /// Loads onto `device`, weights cast to `dtype` (f32, f16 or bf16).
    pub fn new(device: &'a Device, dtype: DType) -> Self {
        Self { place: Place::One(device), dtype, extent: Extent::Whole, progress: None }
    }

    /// Loads each part onto the device that `map` has for it.
    pub fn on(map: &'a DeviceMap, dtype: DType) -> Self {
        Self { place: Place::Map(map), dtype, extent: Extent::Whole, progress: None }
    }

    /// Loads so much of the model: an [`Extent::Encoder`] is without an untied head, which may be in the files or not.
    /// It gives hidden states and, unless it is tied, no logits.
    pub fn extent(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// Calls `listener` after every tensor.
    pub fn progress(self, listener: &'a mut dyn FnMut(Progress)) -> Self {
        Self { progress: Some(listener), ..self }
    }

    /// Loads the checkpoint in `dir`.
    ///
    /// Needs memory for the weights once, plus one tensor (of a vocabulary-sized matrix, one block).
    /// Every key, shape and dtype is checked before the first weight is read.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`]; a key that is missing, unused, duplicate or of the wrong shape or
    /// dtype; a weight that is not finite in the dtype; a dtype that one of the devices cannot compute in. A tied
    /// model's `lm_head.weight` may be absent or present, but must equal the embedding; an untied model without one is
    /// [`CheckpointError::NoHead`].
    ///
    /// # Panics
    /// When a map is of a model with fewer layers.
    pub fn checkpoint(self, dir: impl AsRef<Path>) -> Result<Qwen3, ImportError> {
        self.check_dtype()?;
        let checkpoint = Checkpoint::open(dir)?;
        checkpoint.check(self.extent)?;
        let config = checkpoint.config();
        let (map, extent) = (self.map(config), self.extent);
        let source = CheckpointSource::new(&checkpoint, map.device(ModelPart::Embedding), self.dtype)?;
        let mut source = source.telling(self.reading(config));
        Qwen3::build_on(&mut source, config, extent, &map)
    }

    /// Loads the model in the record `file`.
    ///
    /// Tensors are read one at a time. A record written in the same dtype gives the very bits that were
    /// written.
    ///
    /// # Errors
    /// When the file is not a record of a Qwen3 model, is truncated, or has a tensor missing, unused, misshapen, or
    /// with another checksum than was written (records of before there were checksums have none, and load); when a
    /// weight is not finite; when one of the devices cannot compute in the dtype; [`CheckpointError::NoHead`].
    ///
    /// # Panics
    /// When a map is of a model with fewer layers.
    pub fn record(self, file: impl AsRef<Path>) -> Result<Qwen3, ImportError> {
        let precision = self.check_dtype()?;
        let record = RecordFile::open(file)?;
        if self.extent == Extent::Whole {
            record.check_head()?;
        }
        let config = record.config().clone();
        let (map, extent) = (self.map(&config), self.extent);
        let first = map.device(ModelPart::Embedding).clone();
        let mut source = RecordSource::new(record, extent, (first, precision), self.reading(&config));
        let model = Qwen3::build_on(&mut source, &config, extent, &map)?;
        source.all_used()?;
        Ok(model)
    }

    /// Checks the dtype before a file is looked at.
    fn check_dtype(&self) -> Result<Precision, ImportError> {
        match self.place {
            Place::One(device) => check_dtype(device, self.dtype),
            Place::Map(map) => {
                let mut checked = map.stages().map(|(device, _)| check_dtype(device, self.dtype));
                let first = checked.next().expect("a model lies on at least one device")?;
                checked.try_fold(first, |_, checked| checked)
            }
        }
    }

    fn map(&self, config: &Qwen3Config) -> Cow<'a, DeviceMap> {
        match self.place {
            Place::One(device) => Cow::Owned(DeviceMap::whole(device.clone(), config.num_hidden_layers)),
            Place::Map(map) => Cow::Borrowed(map),
        }
    }

    fn reading<'b>(self, config: &Qwen3Config) -> Reading<'b>
    where
        'a: 'b,
    {
        let listener = self.progress.map(|listener| -> Listener<'b> { listener });
        Reading { listener, done: 0, total: self.extent.parameters(config) }
    }
}

/// Checks that `dtype` is one that weights are converted to, and one that `device` computes in.
pub(crate) fn check_dtype(device: &Device, dtype: DType) -> Result<Precision, ImportError> {
    let precision = precision_of(dtype).filter(|_| device.supports_dtype(dtype));
    precision.ok_or_else(|| ImportError::DType { dtype, place: format!("on {device:?}") })
}

/// How much of a model has been read, and who is told.
#[derive(Default)]
pub(crate) struct Reading<'a> {
    listener: Option<Listener<'a>>,
    done: usize,
    total: usize,
}

impl Reading<'_> {
    /// Tells that so many values of the tensor `key` have been read.
    pub fn read(&mut self, key: &str, values: usize) {
        self.done += values;
        if let Some(listener) = &mut self.listener {
            listener(Progress { key, done: self.done, total: self.total });
        }
    }
}
