use std::path::Path;

use half::{bf16, f16};

use super::{Array, Values};
use crate::TraceError;

/// The dtypes that are read, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    BF16,
    F32,
    F64,
    I32,
    I64,
}

impl Element {
    /// Bytes of one value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// The number of elements of `shape` if they take exactly `bytes` bytes.
pub(super) fn count(shape: &[u64], element: Element, bytes: u64) -> Option<u64> {
    let size = element.size() as u64;
    let needed = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim))?;
    (needed == bytes).then_some(bytes / size)
}

/// Decodes bytes whose number has been checked against the shape; values need not be finite.
pub(super) fn decode(
    file: &Path,
    tensor: &str,
    shape: Vec<usize>,
    element: Element,
    bytes: &[u8],
) -> Result<Array, TraceError> {
    if bytes.is_empty() {
        return Err(TraceError::Empty { file: file.into(), tensor: tensor.into(), shape });
    }
    let values = match element {
        Element::F16 => Values::Float(values(bytes, |b| f16::from_le_bytes(b).to_f32())),
        Element::BF16 => Values::Float(values(bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Element::F32 => Values::Float(values(bytes, f32::from_le_bytes)),
        Element::F64 => Values::Float(values(bytes, |b| f64::from_le_bytes(b) as f32)),
        Element::I32 => Values::Int(values(bytes, |b| i32::from_le_bytes(b).into())),
        Element::I64 => Values::Int(values(bytes, i64::from_le_bytes)),
    };
    Ok(Array { shape, values })
}

/// Fails at the first value that is not finite.
pub(super) fn check_finite(
    file: &Path,
    tensor: &str,
    mut values: impl Iterator<Item = f32>,
) -> Result<(), TraceError> {
    let mut index = 0;
    let bad = values.find(|value| {
        index += 1;
        !value.is_finite()
    });
    match bad {
        Some(value) => {
            Err(TraceError::NotFinite { file: file.into(), tensor: tensor.into(), index: index - 1, value })
        }
        None => Ok(()),
    }
}

/// Converts each group of `N` bytes.
pub(super) fn values<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (groups, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty(), "{} bytes in groups of {N}", bytes.len());
    groups.iter().map(|&group| convert(group)).collect()
}
