use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use qwen3_checkpoint::{Checkpoint, CheckpointError};
use qwen3_model::{DecoderLayer, Kernel, PlacedSource, Precision, WeightSource};

use crate::ImportError;
use crate::adapter::attach;
use crate::loader::{Reading, check_dtype};
use crate::weight::{Value, weight};

/// A [`WeightSource`] over an open checkpoint, for a whole model or for single layers, with the checkpoint's adapter on
/// them where it has one.
pub struct CheckpointSource<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    precision: Precision,
    kernel: Kernel,
    reading: Reading<'a>,
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
            reading: Reading::default(),
        })
    }

    /// The same, for modules that compute with `kernel`.
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// The same, telling of what is read.
    pub(crate) fn telling(self, reading: Reading<'a>) -> Self {
        Self { reading, ..self }
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
        self.checkpoint.check_tensor(key, whole)?;
        let part = (key, whole, start);
        let data = match self.precision {
            Precision::F32 => data::<f32>(self.checkpoint, part, &shape),
            Precision::F16 => data::<f16>(self.checkpoint, part, &shape),
            Precision::BF16 => data::<bf16>(self.checkpoint, part, &shape),
        }?;
        self.reading.read(key, shape.iter().product());
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
