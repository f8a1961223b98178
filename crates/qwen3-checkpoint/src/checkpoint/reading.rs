//! Values out of the files.

use std::ops::Range;

use half::{bf16, f16};
use qwen3_config::{Fp8Blocks, Precision};

use super::numbers::{Numbers, StoredAs};
use super::{Checkpoint, PIECE};
use crate::fp8::{Fp8Matrix, scales_key};
use crate::layout::Place;
use crate::weight_file::WeightFile;
use crate::{CheckpointError, HostValue, NotFinite};

/// A tensor of the model in a file.
pub(super) struct Found<'a> {
    pub(super) file: &'a WeightFile,
    pub(super) place: Place,
    pub(super) stored: StoredAs,
}

impl Found<'_> {
    /// Some of the bytes of a tensor that is stored alone.
    pub(super) fn bytes(&self, range: Range<usize>) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; range.len()];
        self.file.read_into(&self.place.key, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// The numbers with the flat index `first` and behind it, in the tensor as it is stored.
    pub(super) fn widened(
        &self,
        numbers: &Numbers,
        first: usize,
        values: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let (unit, _) = self.stored.unit();
        // Whole units, and of those what is asked for.
        let start = first / unit * unit;
        let end = (first + values.len()).next_multiple_of(unit);
        let bytes = self.bytes(self.stored.bytes(start)..self.stored.bytes(end))?;
        if end - start == values.len() {
            numbers.widen(&bytes, first, values);
        } else {
            let mut all = vec![0.0; end - start];
            numbers.widen(&bytes, start, &mut all);
            values.copy_from_slice(&all[first - start..][..values.len()]);
        }
        Ok(())
    }
}

impl Checkpoint {
    /// The values of tensor `key` of `shape`, row-major, rounded to nearest even where `T` is narrower than
    /// the file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn values<T: HostValue>(&self, key: &str, shape: &[usize]) -> Result<Vec<T>, CheckpointError> {
        // First, because the product of a shape that no file holds may overflow.
        self.check_tensor(key, shape)?;
        let mut values = vec![T::default(); shape.iter().product()];
        self.read(key, shape, 0, &mut values)?;
        Ok(values)
    }

    /// [`values`](Self::values) of some rows of the matrix `key` of `shape`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// When the rows lie outside the matrix.
    pub fn rows<T: HostValue>(
        &self,
        key: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Vec<T>, CheckpointError> {
        self.check_tensor(key, &shape)?;
        let mut values = vec![T::default(); rows.len() * shape[1]];
        self.read(key, &shape, rows.start * shape[1], &mut values)?;
        Ok(values)
    }

    /// As many values of tensor `key` of `shape` as there is room for, from the one with flat index `start` on,
    /// rounded to nearest even where `T` is narrower than the file.
    ///
    /// # Errors
    /// When the key is missing, has another shape or a dtype that is not read, or holds a value that is not
    /// finite as `T`.
    ///
    /// # Panics
    /// When the tensor has no such values.
    pub fn read<T: HostValue>(
        &self,
        key: &str,
        shape: &[usize],
        start: usize,
        values: &mut [T],
    ) -> Result<(), CheckpointError> {
        let found = self.find(key, shape)?;
        let key = &found.place.key[..];
        let all: usize = shape.iter().product();
        assert!(start <= all && values.len() <= all - start, "values from {start} on of {all}");
        let mut plain = match found.stored {
            StoredAs::Plain(precision) => vec![0; values.len().min(PIECE) * precision.bytes()],
            _ => Vec::new(),
        };
        let mut exact = vec![0.0; if plain.is_empty() { values.len().min(PIECE) } else { 0 }];
        let numbers = self.numbers(&found)?;
        for (piece, values) in values.chunks_mut(PIECE).enumerate() {
            let first = found.place.start + start + piece * PIECE;
            let decoded = match &numbers {
                // Not by way of f32: most weights are read as they are stored.
                Numbers::Plain(precision) => {
                    let bytes = &mut plain[..values.len() * precision.bytes()];
                    found.file.read_into(key, first * precision.bytes(), bytes)?;
                    T::decode(bytes, *precision, values)
                }
                numbers => {
                    let exact = &mut exact[..values.len()];
                    found.widened(numbers, first, exact)?;
                    rounded(exact, values)
                }
            };
            decoded.map_err(|bad| CheckpointError::NonFinite {
                file: found.file.path().into(),
                key: key.into(),
                index: first + bad.index,
                value: bad.value,
                dtype: T::PRECISION,
            })?;
        }
        Ok(())
    }

    /// The bytes of tensor `key` of `shape` in `precision`, row-major and little-endian.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn bytes(
        &self,
        key: &str,
        shape: &[usize],
        precision: Precision,
    ) -> Result<Vec<u8>, CheckpointError> {
        fn flat<T: HostValue, const N: usize>(values: Vec<T>, bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
            values.into_iter().flat_map(bytes).collect()
        }
        Ok(match precision {
            Precision::F32 => flat(self.values(key, shape)?, f32::to_le_bytes),
            Precision::F16 => flat(self.values(key, shape)?, f16::to_le_bytes),
            Precision::BF16 => flat(self.values(key, shape)?, bf16::to_le_bytes),
        })
    }

    /// What it takes to read a tensor.
    pub(super) fn numbers(&self, found: &Found) -> Result<Numbers, CheckpointError> {
        Ok(match found.stored {
            StoredAs::Plain(precision) => Numbers::Plain(precision),
            StoredAs::Blocks(format) => Numbers::Blocks(format),
            StoredAs::Fp8(blocks) => Numbers::Fp8(self.fp8_matrix(&found.place, blocks)?),
        })
    }

    /// The matrix at `place` with its scales.
    fn fp8_matrix(&self, place: &Place, blocks: Fp8Blocks) -> Result<Fp8Matrix, CheckpointError> {
        let &[rows, columns] = &place.shape[..] else {
            unreachable!("only matrices are stored so");
        };
        let scales =
            self.values(&scales_key(&place.key), &Fp8Matrix::scales_shape(blocks, [rows, columns]))?;
        Ok(Fp8Matrix { blocks, columns, scales })
    }
}

/// Each number rounded to nearest even.
///
/// # Errors
/// The first that is NaN or infinite once rounded.
fn rounded<T: HostValue>(exact: &[f32], values: &mut [T]) -> Result<(), NotFinite> {
    for (index, (&exact, value)) in exact.iter().zip(values).enumerate() {
        *value = T::round(exact);
        if !value.is_finite() {
            return Err(NotFinite { index, value: exact });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_told_with_its_place() {
        let mut values = [f16::ZERO; 2];
        let overflow = NotFinite { index: 1, value: 448_000.0 };
        assert_eq!(rounded(&[1.0, 448_000.0], &mut values), Err(overflow));
        assert!(rounded(&[f32::NAN], &mut [0.0_f32]).is_err_and(|bad| bad.index == 0));
    }
}
