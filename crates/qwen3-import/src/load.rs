use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use qwen3_checkpoint::{Checkpoint, CheckpointError, HostValue};
use qwen3_model::{Precision, Qwen3, WeightSource, precision_of};

use crate::ImportError;

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
            done: 0,
            progress: None,
        })
    }

    /// The tensor `key` with the values that `read` gives, of `shape`.
    fn tensor_of<const D: usize>(
        &mut self,
        key: &str,
        shape: [usize; D],
        data: Result<TensorData, CheckpointError>,
    ) -> Result<Tensor<D>, ImportError> {
        let data = data?;
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
        fn read<T: HostValue + burn::tensor::Element>(
            checkpoint: &Checkpoint,
            key: &str,
            shape: &[usize],
        ) -> Result<TensorData, CheckpointError> {
            Ok(TensorData::new(checkpoint.values::<T>(key, shape)?, shape))
        }
        let checkpoint = self.checkpoint;
        let data = match self.precision {
            Precision::F32 => read::<f32>(checkpoint, key, &shape),
            Precision::F16 => read::<f16>(checkpoint, key, &shape),
            Precision::BF16 => read::<bf16>(checkpoint, key, &shape),
        };
        self.tensor_of(key, shape, data)
    }

    fn rows(&mut self, key: &str, shape: [usize; 2], rows: Range<usize>) -> Result<Tensor<2>, ImportError> {
        fn read<T: HostValue + burn::tensor::Element>(
            checkpoint: &Checkpoint,
            key: &str,
            shape: [usize; 2],
            rows: Range<usize>,
        ) -> Result<TensorData, CheckpointError> {
            let part = [rows.len(), shape[1]];
            Ok(TensorData::new(checkpoint.rows::<T>(key, shape, rows)?, part))
        }
        let (checkpoint, part) = (self.checkpoint, [rows.len(), shape[1]]);
        let data = match self.precision {
            Precision::F32 => read::<f32>(checkpoint, key, shape, rows),
            Precision::F16 => read::<f16>(checkpoint, key, shape, rows),
            Precision::BF16 => read::<bf16>(checkpoint, key, shape, rows),
        };
        self.tensor_of(key, part, data)
    }
}
