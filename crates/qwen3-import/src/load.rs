use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use qwen3_checkpoint::{Checkpoint, CheckpointError};
use qwen3_model::{Kernel, Precision, Qwen3, WeightSource, precision_of};

use crate::ImportError;
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
/// model's `lm_head.weight` may be absent or present, but must equal the embedding.
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
    let mut source = CheckpointSource::new(&checkpoint, device, dtype)?;
    checkpoint.check_model()?;
    let config = checkpoint.config();
    source.progress = Some((progress, config.num_parameters()));
    Qwen3::build(&mut source, config)
}

/// Checks that `dtype` is one that weights are converted to, and one that `device` computes in.
pub(crate) fn check_dtype(device: &Device, dtype: DType) -> Result<Precision, ImportError> {
    let precision = precision_of(dtype).filter(|_| device.supports_dtype(dtype));
    precision.ok_or_else(|| ImportError::DType { dtype, place: format!("on {device:?}") })
}

/// Whom to tell of every tensor read, and how many values there are in all.
type Listener<'a> = (&'a mut dyn FnMut(Progress), usize);

/// A [`WeightSource`] over an open checkpoint, for a whole model or for single layers.
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

    fn kernel(&self) -> Kernel {
        self.kernel
    }
}
