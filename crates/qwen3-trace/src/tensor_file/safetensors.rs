use std::path::Path;

use qwen3_checkpoint::SafetensorsFile;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::decode::{Element, check_count};
use super::{Format, Stored, dtype_error, no_tensor};
use crate::TraceError;

/// An open safetensors file.
#[derive(Debug)]
pub(super) struct Safetensors(SafetensorsFile);

impl Safetensors {
    /// Opens a file and checks its header.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        Ok(Self(SafetensorsFile::open(path)?))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, TraceError> {
        self.0.info(name).ok_or_else(|| no_tensor(self.0.path(), name))
    }
}

impl Format for Safetensors {
    fn names(&self) -> Vec<String> {
        self.0.names().map(String::from).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.0.info(name).is_some()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        Ok(self.info(name)?.shape.clone())
    }

    fn stored(&self, name: &str) -> Result<Stored, TraceError> {
        let TensorInfo { dtype, shape, data_offsets: (start, end) } = self.info(name)?;
        let element = match dtype {
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::BF16,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            Dtype::I64 => Element::I64,
            Dtype::I32 => Element::I32,
            Dtype::I16 => Element::I16,
            Dtype::I8 => Element::I8,
            Dtype::U8 => Element::U8,
            Dtype::BOOL => Element::Bool,
            other => {
                let expected = "F16, BF16, F32, F64, I64, I32, I16, I8, U8 or BOOL";
                return Err(dtype_error(self.0.path(), name, expected, format!("{other:?}")));
            }
        };
        let length = end - start;
        check_count(self.0.path(), name, (length / element.size()) as u64, element)?;
        let bytes = self.0.read(name, 0..length)?;
        Ok(Stored { element, shape: shape.clone(), bytes })
    }
}
