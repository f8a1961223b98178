use std::path::Path;

use half::{bf16, f16};

use super::{Array, Stored, Values, check_size};
use crate::TraceError;

/// The dtypes that are read, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    BF16,
    F32,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    /// Bytes of one value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Bytes of one value where it takes most, as it is stored or as it is decoded.
    fn widest(self) -> u64 {
        match self {
            Self::F16 | Self::BF16 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 | Self::Bool => 8,
        }
    }
}

/// The number of elements of `shape` if they take exactly `bytes` bytes.
pub(super) fn count(shape: &[u64], element: Element, bytes: u64) -> Option<u64> {
    let size = element.size() as u64;
    let needed = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim))?;
    (needed == bytes).then_some(bytes / size)
}

/// Fails for so many values as do not fit into memory when they are decoded.
pub(super) fn check_count(file: &Path, tensor: &str, count: u64, element: Element) -> Result<(), TraceError> {
    check_size(file, tensor, count.saturating_mul(element.widest()))
}

/// Decodes bytes whose number has been checked against the shape; values need not be finite.
pub(super) fn decode(file: &Path, tensor: &str, stored: Stored) -> Result<Array, TraceError> {
    let Stored { element, shape, bytes } = stored;
    if bytes.is_empty() {
        return Err(TraceError::Empty { file: file.into(), tensor: tensor.into(), shape });
    }
    let values = match element {
        Element::F16 => Values::Float(values(&bytes, |b| f16::from_le_bytes(b).to_f32())),
        Element::BF16 => Values::Float(values(&bytes, |b| bf16::from_le_bytes(b).to_f32())),
        Element::F32 => Values::Float(values(&bytes, f32::from_le_bytes)),
        Element::F64 => Values::Float(values(&bytes, |b| f64::from_le_bytes(b) as f32)),
        Element::I64 => Values::Int(values(&bytes, i64::from_le_bytes)),
        Element::I32 => Values::Int(values(&bytes, |b| i32::from_le_bytes(b).into())),
        Element::I16 => Values::Int(values(&bytes, |b| i16::from_le_bytes(b).into())),
        Element::I8 => Values::Int(values(&bytes, |b| i8::from_le_bytes(b).into())),
        Element::U8 => Values::Int(values(&bytes, |b| u8::from_le_bytes(b).into())),
        Element::Bool => Values::Int(values(&bytes, |[b]| (b != 0).into())),
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
