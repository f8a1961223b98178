//! What numbers the bytes of a tensor are.

use qwen3_config::{Fp8Blocks, Precision};

use crate::blocks::BlockFormat;
use crate::fp8::Fp8Matrix;
use crate::host::widen;

/// How a tensor that is read is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAs {
    /// As numbers of this dtype.
    Plain(Precision),
    /// As eight bits, with a scale for each block.
    Fp8(Fp8Blocks),
    /// In blocks with their scales inside.
    Blocks(BlockFormat),
}

impl StoredAs {
    /// How many numbers are stored together, and in how many bytes.
    pub(super) fn unit(self) -> (usize, usize) {
        match self {
            Self::Plain(precision) => (1, precision.bytes()),
            Self::Fp8(_) => (1, 1),
            Self::Blocks(format) => (format.numbers(), format.bytes()),
        }
    }

    /// In how many bytes so many numbers are stored, which are whole units.
    pub(super) fn bytes(self, numbers: usize) -> usize {
        let (unit, bytes) = self.unit();
        numbers / unit * bytes
    }
}

/// The same, with what else it takes.
pub(super) enum Numbers {
    Plain(Precision),
    Fp8(Fp8Matrix),
    Blocks(BlockFormat),
}

impl Numbers {
    /// The numbers of `bytes`, which are whole units, as f32: exactly, of f32, f16, bf16 and blocks; of eight bits the
    /// product with the scale. `first` is the flat index of the first in the tensor as it is stored.
    pub(super) fn widen(&self, bytes: &[u8], first: usize, values: &mut [f32]) {
        match self {
            Self::Plain(precision) => widen(bytes, *precision, values),
            Self::Fp8(matrix) => matrix.widen(bytes, first, values),
            Self::Blocks(format) => format.decode(bytes, values),
        }
    }
}
