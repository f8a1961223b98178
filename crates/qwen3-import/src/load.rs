use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use qwen3_checkpoint::{Checkpoint, CheckpointError};
use qwen3_model::{
    DecoderLayer, DeviceMap, Kernel, ModelPart, PlacedSource, Precision, Qwen3, WeightSource, precision_of,
};

use crate::ImportError;
use crate::adapter::attach;
use crate::weight::{Value, weight};

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

/// Loads the checkpoint in `dir` onto `device`, its weights cast to `dtype` (f32, f16 or bf16).
///
/// Needs memory for the weights once, plus one tensor (of a vocabulary-sized matrix, one block).
/// Every key, shape and dtype is checked before the first weight is read.
///
/// # Errors
/// Those of [`Checkpoint::open`]; a key that is missing, unused, duplicate or of the wrong shape or
/// dtype; a weight that is not finite in `dtype`; a `dtype` that the device cannot compute in. A tied
/// model's `lm_head.weight` may be absent or present, but must equal the embedding; an untied model without one is
/// [`CheckpointError::NoHead`].
pub fn load(dir: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Qwen3, ImportError> {
    load_with_progress(dir, device, dtype, &mut |_| {})
}

/// [`load`], calling `progress` after every tensor.
///
/// # Errors
/// As [`load`].
pub fn load_with_progress(
    dir: impl AsRef<Path>,
    device: &Device,
    dtype: DType,
    progress: &mut dyn FnMut(Progress),
) -> Result<Qwen3, ImportError> {
    let checkpoint = Checkpoint::open(dir)?;
    let map = DeviceMap::whole(device.clone(), checkpoint.config().num_hidden_layers);
    build(&checkpoint, &map, dtype, progress)
}

/// [`load`] with each part on the device that `map` has for it, calling `progress` after every tensor.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use burn::tensor::{DType, Device};
/// use qwen3_model::{DeviceMap, DeviceMapFile, Precision};
/// let folder = "fixtures/checkpoints/gqa-tied";
/// let config = qwen3_import::read_config(folder)?;
/// let text = r#"{"devices": [{"device": "here", "layers": [0, 0]}, {"device": "there", "layers": [1, 2]}]}"#;
/// let names = DeviceMapFile::from_json(text)?.place(&config, Precision::F32, 1, 256)?;
/// let map: DeviceMap = names.try_map(|_name| Ok::<_, String>(Device::default()))?;
/// let model = qwen3_import::load_on(folder, &map, DType::F32, &mut |_| {})?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`load`]; of the devices, the first that does not compute in `dtype`.
///
/// # Panics
/// When `map` is of a model with fewer layers.
pub fn load_on(
    dir: impl AsRef<Path>,
    map: &DeviceMap,
    dtype: DType,
    progress: &mut dyn FnMut(Progress),
) -> Result<Qwen3, ImportError> {
    build(&Checkpoint::open(dir)?, map, dtype, progress)
}

fn build(
    checkpoint: &Checkpoint,
    map: &DeviceMap,
    dtype: DType,
    progress: &mut dyn FnMut(Progress),
) -> Result<Qwen3, ImportError> {
    check_dtypes(map, dtype)?;
    let mut source = CheckpointSource::new(checkpoint, map.device(ModelPart::Embedding), dtype)?;
    checkpoint.check_model()?;
    let config = checkpoint.config();
    source.progress = Some((progress, config.num_parameters()));
    Qwen3::build_on(&mut source, config, map)
}

/// [`check_dtype`] of every device.
pub(crate) fn check_dtypes(map: &DeviceMap, dtype: DType) -> Result<Precision, ImportError> {
    let mut checked = map.stages().map(|(device, _)| check_dtype(device, dtype));
    let first = checked.next().expect("a model lies on at least one device")?;
    checked.try_fold(first, |_, checked| checked)
}

/// [`load`] without an untied head, which may be in the files or not: for embedding. Such a model gives hidden
/// states and, unless it is tied, no logits.
///
/// # Errors
/// As [`load`], but for the head.
pub fn load_encoder(dir: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Qwen3, ImportError> {
    load_encoder_with_progress(dir, device, dtype, &mut |_| {})
}

/// [`load_encoder`], calling `progress` after every tensor.
///
/// # Errors
/// As [`load_encoder`].
pub fn load_encoder_with_progress(
    dir: impl AsRef<Path>,
    device: &Device,
    dtype: DType,
    progress: &mut dyn FnMut(Progress),
) -> Result<Qwen3, ImportError> {
    let checkpoint = Checkpoint::open(dir)?;
    let mut source = CheckpointSource::new(&checkpoint, device, dtype)?;
    checkpoint.check_encoder()?;
    let config = checkpoint.config();
    source.progress = Some((progress, config.num_encoder_parameters()));
    Qwen3::build_encoder(&mut source, config)
}

/// Checks that `dtype` is one that weights are converted to, and one that `device` computes in.
pub(crate) fn check_dtype(device: &Device, dtype: DType) -> Result<Precision, ImportError> {
    let precision = precision_of(dtype).filter(|_| device.supports_dtype(dtype));
    precision.ok_or_else(|| ImportError::DType { dtype, place: format!("on {device:?}") })
}

/// Whom to tell of every tensor read, and how many values there are in all.
type Listener<'a> = (&'a mut dyn FnMut(Progress), usize);

/// A [`WeightSource`] over an open checkpoint, for a whole model or for single layers, with the checkpoint's adapter on
/// them where it has one.
pub struct CheckpointSource<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    precision: Precision,
    kernel: Kernel,
    done: usize,
    progress: Option<Listener<'a>>,
}

impl<'a> CheckpointSource<'a> {
    /// The checkpoint's tensors on `device`, cast to `dtype`.
    ///
    /// # Errors
    /// [`ImportError::DType`] when `dtype` is not f32, f16 or bf16, or not one of the device's.
    pub fn new(checkpoint: &'a Checkpoint, device: &Device, dtype: DType) -> Result<Self, ImportError> {
        Ok(Self {
            checkpoint,
            precision: check_dtype(device, dtype)?,
            device: device.clone(),
            kernel: Kernel::default(),
            done: 0,
            progress: None,
        })
    }

    /// The same, for modules that compute with `kernel`.
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// A tensor of `shape` with the values of the tensor `key` of shape `whole` from the one with flat index `start`
    /// on.
    fn read<const D: usize>(
        &mut self,
        key: &str,
        whole: &[usize],
        start: usize,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ImportError> {
        fn data<T: Value>(
            checkpoint: &Checkpoint,
            (key, whole, start): (&str, &[usize], usize),
            shape: &[usize],
        ) -> Result<TensorData, CheckpointError> {
            weight(shape, |values: &mut [T]| checkpoint.read(key, whole, start, values))
        }
        // First, because the product of a shape that no file holds may overflow.
        self.checkpoint.check(key, whole)?;
        let part = (key, whole, start);
        let data = match self.precision {
            Precision::F32 => data::<f32>(self.checkpoint, part, &shape),
            Precision::F16 => data::<f16>(self.checkpoint, part, &shape),
            Precision::BF16 => data::<bf16>(self.checkpoint, part, &shape),
        }?;
        self.done += shape.iter().product::<usize>();
        if let Some((progress, total)) = &mut self.progress {
            progress(Progress { key, done: self.done, total: *total });
        }
        let dtype = data.dtype();
        Ok(Tensor::from_data(data, (&self.device, dtype)))
    }
}

impl WeightSource for CheckpointSource<'_> {
    type Error = ImportError;

    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, ImportError> {
        self.read(key, &shape, 0, shape)
    }

    fn rows(&mut self, key: &str, shape: [usize; 2], rows: Range<usize>) -> Result<Tensor<2>, ImportError> {
        self.read(key, &shape, rows.start * shape[1], [rows.len(), shape[1]])
    }

    fn adapted(&mut self, index: usize, layer: DecoderLayer) -> Result<DecoderLayer, ImportError> {
        Ok(match self.checkpoint.adapter() {
            Some(adapter) => attach(layer, index, adapter),
            None => layer,
        })
    }

    fn kernel(&self) -> Kernel {
        self.kernel
    }
}

impl PlacedSource for CheckpointSource<'_> {
    fn place(&mut self, device: &Device) {
        self.device = device.clone();
    }
}
