use std::fmt;

use qwen3_config::Precision;
use safetensors::Dtype;

use crate::blocks::BlockFormat;

/// How the numbers of a tensor are stored in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As numbers of this dtype.
    Plain(Precision),
    /// As numbers of four bits of an exponent and three of a fraction; the scales of a matrix are another tensor.
    Fp8,
    /// In blocks of GGML's.
    Blocks(BlockFormat),
    /// As something that is not read; the file format's name for it.
    Unread(String),
}

impl From<Dtype> for Encoding {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::Plain(Precision::F32),
            Dtype::F16 => Self::Plain(Precision::F16),
            Dtype::BF16 => Self::Plain(Precision::BF16),
            Dtype::F8_E4M3 => Self::Fp8,
            other => Self::Unread(format!("{other:?}")),
        }
    }
}

/// In lower case: `bf16`, `f8_e4m3`, `q4_k`.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Plain(precision) => f.pad(precision.name()),
            Self::Fp8 => f.pad("f8_e4m3"),
            Self::Blocks(format) => f.pad(format.name()),
            Self::Unread(name) => f.pad(&name.to_lowercase()),
        }
    }
}
