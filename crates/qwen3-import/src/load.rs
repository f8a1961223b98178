use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_model::{Qwen3, WeightSource};

use crate::convert::convert;
use crate::{Checkpoint, ImportError};

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
    let mut checkpoint = Checkpoint::open(dir)?;
    let config = checkpoint.config().clone();
    checkpoint.check_model(device)?;
    let total = config.num_parameters();
    let mut source = checkpoint.source(device, dtype)?;
    source.progress = Some((progress, total));
    Qwen3::build(&mut source, &config)
}

impl Checkpoint {
    /// Checks that the files hold exactly the model that the config describes, without reading a
    /// weight (but for a tied head that is stored as well, which is compared with the embedding).
    ///
    /// # Errors
    /// As [`load`].
    pub fn check_model(&mut self, device: &Device) -> Result<(), ImportError> {
        let config = self.config().clone();
        let mut dry_run = DryRun {
            checkpoint: self,
            device,
            used: HashSet::new(),
        };
        Qwen3::build(&mut dry_run, &config)?;
        let mut used = dry_run.used;
        if config.tie_word_embeddings && self.contains(HEAD) {
            self.check_tied_head([config.vocab_size, config.hidden_size])?;
            used.insert(HEAD.into());
        }
        self.check_all_used(&used)
    }

    /// The checkpoint's tensors on `device` in `dtype`, for building a whole model or single layers.
    ///
    /// # Errors
    /// [`ImportError::DType`] when `dtype` is not f32, f16 or bf16, or not one of the device's.
    pub fn source<'a>(
        &'a mut self,
        device: &Device,
        dtype: DType,
    ) -> Result<CheckpointSource<'a>, ImportError> {
        check_dtype(device, dtype)?;
        Ok(CheckpointSource {
            checkpoint: self,
            device: device.clone(),
            dtype,
            done: 0,
            progress: None,
        })
    }

    /// The values of tensor `key` of `shape` on the host, row-major, cast up to f32.
    ///
    /// # Errors
    /// When the key is missing, has another shape or a dtype that is not read, or holds a value that
    /// is not finite.
    pub fn values(&mut self, key: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        self.check(key, shape)?;
        self.value_range(key, shape, 0..shape.iter().product())
    }

    /// [`values`](Self::values) of some rows of the matrix `key` of `shape`.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    ///
    /// # Panics
    /// When the rows lie outside the matrix.
    pub fn value_rows(
        &mut self,
        key: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Vec<f32>, ImportError> {
        self.check(key, &shape)?;
        self.value_range(key, &shape, rows.start * shape[1]..rows.end * shape[1])
    }

    fn value_range(
        &mut self,
        key: &str,
        shape: &[usize],
        range: Range<usize>,
    ) -> Result<Vec<f32>, ImportError> {
        let part = [range.len()];
        let data = self.convert_range(key, shape, range, &part, DType::F32)?;
        Ok(data.try_into_vec().expect("converted to f32"))
    }

    /// The values `range` (flat indices) of the tensor `key` of `shape`, as data of shape `part`.
    fn convert_range(
        &mut self,
        key: &str,
        shape: &[usize],
        range: Range<usize>,
        part: &[usize],
        dtype: DType,
    ) -> Result<TensorData, ImportError> {
        let (file, from) = self.check(key, shape)?;
        let file = file.to_path_buf();
        let size = from.bitsize() / 8;
        let start = range.start;
        let bytes = self.read(key, range.start * size..range.end * size)?;
        convert(&bytes, from, part, dtype).map_err(|bad| ImportError::NonFinite {
            file,
            key: key.into(),
            index: start + bad.index,
            value: bad.value,
            dtype,
        })
    }

    fn check_tied_head(&mut self, shape: [usize; 2]) -> Result<(), ImportError> {
        const CHUNK_ROWS: usize = 4096;
        let (file, head_dtype) = self.check(HEAD, &shape)?;
        let differ = ImportError::TiedWeightsDiffer { file: file.into() };
        let (_, dtype) = self.check(EMBEDDING, &shape)?;
        if head_dtype != dtype {
            return Err(differ);
        }
        let row = shape[1] * dtype.bitsize() / 8;
        for start in (0..shape[0]).step_by(CHUNK_ROWS) {
            let range = start * row..shape[0].min(start + CHUNK_ROWS) * row;
            if self.read(HEAD, range.clone())? != self.read(EMBEDDING, range)? {
                return Err(differ);
            }
        }
        Ok(())
    }
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// `dtype` is one that weights are converted to, and one that `device` computes in.
pub(crate) fn check_dtype(device: &Device, dtype: DType) -> Result<(), ImportError> {
    let known = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    match known && device.supports_dtype(dtype) {
        true => Ok(()),
        false => Err(ImportError::DType {
            dtype,
            place: format!("on {device:?}"),
        }),
    }
}

/// Whom to tell of every tensor read, and how many values there are in all.
type Listener<'a> = (&'a mut dyn FnMut(Progress), usize);

/// A [`WeightSource`] that reads an open checkpoint.
pub struct CheckpointSource<'a> {
    checkpoint: &'a mut Checkpoint,
    device: Device,
    dtype: DType,
    done: usize,
    progress: Option<Listener<'a>>,
}

impl CheckpointSource<'_> {
    /// The values `range` (flat indices) of the tensor `key` of `shape`, as a tensor of `part`.
    fn read<const D: usize>(
        &mut self,
        key: &str,
        shape: &[usize],
        range: Range<usize>,
        part: [usize; D],
    ) -> Result<Tensor<D>, ImportError> {
        let count = range.len();
        let data = self
            .checkpoint
            .convert_range(key, shape, range, &part, self.dtype)?;
        self.done += count;
        if let Some((progress, total)) = &mut self.progress {
            progress(Progress {
                key,
                done: self.done,
                total: *total,
            });
        }
        Ok(Tensor::from_data(data, (&self.device, self.dtype)))
    }
}

impl WeightSource for CheckpointSource<'_> {
    type Error = ImportError;

    fn tensor<const D: usize>(
        &mut self,
        key: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ImportError> {
        // First, because the product of a shape that no file holds may overflow.
        self.checkpoint.check(key, &shape)?;
        self.read(key, &shape, 0..shape.iter().product(), shape)
    }

    fn rows(
        &mut self,
        key: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Tensor<2>, ImportError> {
        let [_, columns] = shape;
        let part = [rows.len(), columns];
        self.read(key, &shape, rows.start * columns..rows.end * columns, part)
    }
}

/// Walks through the key table, checking headers only.
struct DryRun<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    used: HashSet<String>,
}

impl WeightSource for DryRun<'_> {
    type Error = ImportError;

    fn tensor<const D: usize>(
        &mut self,
        key: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ImportError> {
        self.checkpoint.check(key, &shape)?;
        self.used.insert(key.into());
        Ok(Tensor::zeros([1; D], self.device))
    }

    fn rows(
        &mut self,
        key: &str,
        shape: [usize; 2],
        _: Range<usize>,
    ) -> Result<Tensor<2>, ImportError> {
        self.tensor(key, shape)
    }
}
