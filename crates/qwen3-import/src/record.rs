use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::store::{ModuleSnapshot, bridge, burn_pack};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use qwen3_model::{Qwen3, Qwen3Config, WeightSource};

use crate::ImportError;
use crate::load::check_dtype;

/// Where a record keeps its model's `config.json`.
const CONFIG_KEY: &str = "config.json";

/// Writes `model` to a Burn record (Burnpack, `.bpk`) at `file`, its weights cast to `dtype` (f32, f16
/// or bf16), with its config in the record's metadata. An existing file is replaced.
///
/// The record is written beside `file` and renamed, so that a failure leaves what was there. Needs
/// memory for one tensor besides the model.
///
/// # Errors
/// When the file cannot be written, `dtype` is another, or a weight does not stay finite in it.
pub fn save_record(model: &Qwen3, file: impl AsRef<Path>, dtype: DType) -> Result<(), ImportError> {
    let file = file.as_ref();
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(ImportError::DType {
            dtype,
            place: "in a record; use F32, F16 or BF16".into(),
        });
    }
    let tensors = model.collect(None, None, false).into_iter();
    let tensors = tensors.map(|tensor| cast(tensor, dtype)).collect();
    burn_pack::Writer::new(tensors)
        .with_metadata("format", "burnpack")
        .with_metadata("producer", "burn")
        .with_metadata(CONFIG_KEY, &model.config.to_json())
        .auto_extension(false)
        .overwrite(true)
        .write_to_file(file)
        .map_err(|error| match error {
            burn_pack::Error::IoError(message) => ImportError::Io {
                file: file.into(),
                source: io::Error::other(message),
            },
            other => malformed(file, other),
        })
}

/// Loads the model in the record `file` onto `device`, cast to `dtype` (f32, f16 or bf16).
///
/// Tensors are read one at a time. A record written in the same dtype gives the very bits that were
/// written.
///
/// # Errors
/// When the file is not a record of a Qwen3 model, is truncated, or has a tensor missing, unused or
/// misshapen; when a weight is not finite; when `device` cannot compute in `dtype`.
pub fn load_record(
    file: impl AsRef<Path>,
    device: &Device,
    dtype: DType,
) -> Result<Qwen3, ImportError> {
    let file = file.as_ref();
    check_dtype(device, dtype)?;
    let metadata = std::fs::metadata(file).map_err(|source| ImportError::Io {
        file: file.into(),
        source,
    })?;
    let reader =
        burn_pack::Reader::from_file_exact(file).map_err(|error| malformed(file, error))?;
    let config = reader
        .metadata()
        .get(CONFIG_KEY)
        .ok_or_else(|| malformed(file, "no config.json in the record's metadata"))?;
    let config = Qwen3Config::from_json(config).map_err(|source| ImportError::Config {
        file: file.into(),
        source,
    })?;
    let tensors = reader
        .into_tensors()
        .map_err(|error| malformed(file, error))?;
    // Each fits the file; tensors that share bytes could still unfold to any multiple of it.
    let bytes: u64 = tensors.iter().map(|tensor| tensor.byte_len() as u64).sum();
    if bytes > metadata.len() {
        let length = metadata.len();
        let reason = format!("{bytes} bytes of tensors in a file of {length} bytes: they overlap");
        return Err(malformed(file, reason));
    }
    let mut source = RecordSource {
        file: file.into(),
        tensors: tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect(),
        device: device.clone(),
        dtype,
        block: 0,
    };
    let model = Qwen3::build(&mut source, &config)?;
    match source.tensors.into_keys().next() {
        Some(key) => Err(ImportError::UnusedKey {
            file: file.into(),
            key,
        }),
        None => Ok(model),
    }
}

/// `tensor` in `dtype`, converted when the writer reaches it; fails when a value does not stay finite.
fn cast(tensor: burn_pack::Tensor, dtype: DType) -> burn_pack::Tensor {
    if tensor.dtype == dtype {
        return tensor;
    }
    let (name, shape, id) = (tensor.name.clone(), tensor.shape.clone(), tensor.param_id);
    bridge::deferred(name, dtype, shape, id, move || {
        let data = bridge::to_data(&tensor)?;
        match first_non_finite(&data, dtype) {
            None => Ok(data.convert_dtype(dtype)),
            Some((index, value)) => Err(burn_pack::Error::ValidationError(format!(
                "{value} at flat index {index} is not finite as {dtype:?}"
            ))),
        }
    })
}

/// The first value that is NaN or infinite once converted to `dtype`, and its flat index.
fn first_non_finite(data: &TensorData, dtype: DType) -> Option<(usize, f32)> {
    let finite = |value: f32| match dtype {
        DType::F16 => f16::from_f32(value).is_finite(),
        DType::BF16 => bf16::from_f32(value).is_finite(),
        _ => value.is_finite(),
    };
    let mut values = data.iter::<f32>().enumerate();
    values.find(|(_, value)| !finite(*value))
}

fn malformed(file: &Path, reason: impl ToString) -> ImportError {
    ImportError::Malformed {
        file: file.into(),
        reason: reason.to_string(),
    }
}

/// A [`WeightSource`] over the tensors of a record, each taken once.
struct RecordSource {
    file: PathBuf,
    tensors: BTreeMap<String, burn_pack::Tensor>,
    device: Device,
    dtype: DType,
    /// Blocks taken so far of the matrix being read.
    block: usize,
}

impl WeightSource for RecordSource {
    type Error = ImportError;

    fn tensor<const D: usize>(
        &mut self,
        key: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ImportError> {
        let (file, key) = (self.file.clone(), key.to_string());
        let Some(tensor) = self.tensors.remove(&key) else {
            return Err(ImportError::MissingKey { file, key });
        };
        if tensor.shape[..] != shape {
            return Err(ImportError::Shape {
                file,
                key,
                expected: shape.into(),
                found: tensor.shape.to_vec(),
            });
        }
        if !matches!(tensor.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(ImportError::TensorDType {
                file,
                key,
                dtype: format!("{:?}", tensor.dtype),
            });
        }
        let data = bridge::into_data(tensor)
            .map_err(|error| malformed(&file, format!("tensor `{key}`: {error}")))?;
        match first_non_finite(&data, self.dtype) {
            Some((index, value)) => Err(ImportError::NonFinite {
                file,
                key,
                index,
                value,
                dtype: self.dtype,
            }),
            None => {
                let data = data.convert_dtype(self.dtype);
                Ok(Tensor::from_data(data, (&self.device, self.dtype)))
            }
        }
    }

    /// The blocks of a vocabulary-sized matrix are tensors of their own, `{key}.0`, `{key}.1`, ...
    fn rows(
        &mut self,
        key: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Tensor<2>, ImportError> {
        if rows.start == 0 {
            self.block = 0;
        }
        let key = format!("{key}.{}", self.block);
        self.block += 1;
        self.tensor(&key, [rows.len(), shape[1]])
    }
}
