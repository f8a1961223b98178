use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use safetensors::Dtype;

/// A value that is not finite in the dtype asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct NotFinite {
    pub(crate) index: usize,
    pub(crate) value: f32,
}

/// Little-endian `bytes` of dtype `from` as tensor data of `shape` in `to` (f32, f16 or bf16), rounded
/// to nearest even where `to` is narrower.
///
/// # Errors
/// The first value that is NaN or infinite once converted.
pub(crate) fn convert(
    bytes: &[u8],
    from: Dtype,
    shape: &[usize],
    to: DType,
) -> Result<TensorData, NotFinite> {
    match from {
        Dtype::BF16 => convert_from(
            bytes,
            |b: [u8; 2]| bf16::from_le_bytes(b).to_f32(),
            shape,
            to,
        ),
        Dtype::F16 => convert_from(
            bytes,
            |b: [u8; 2]| f16::from_le_bytes(b).to_f32(),
            shape,
            to,
        ),
        Dtype::F32 => convert_from(bytes, f32::from_le_bytes, shape, to),
        other => unreachable!("{other:?} is refused when the checkpoint is checked"),
    }
}

fn convert_from<const N: usize>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> f32,
    shape: &[usize],
    to: DType,
) -> Result<TensorData, NotFinite> {
    let (values, _) = bytes.as_chunks::<N>();
    let values = values.iter().map(|bytes| read(*bytes));
    match to {
        DType::F32 => collect(values, |value| value, |value| value.is_finite(), shape),
        DType::F16 => collect(values, f16::from_f32, |value| value.is_finite(), shape),
        DType::BF16 => collect(values, bf16::from_f32, |value| value.is_finite(), shape),
        other => unreachable!("{other:?} is refused before anything is read"),
    }
}

fn collect<E: burn::tensor::Element>(
    values: impl ExactSizeIterator<Item = f32>,
    round: impl Fn(f32) -> E,
    finite: impl Fn(&E) -> bool,
    shape: &[usize],
) -> Result<TensorData, NotFinite> {
    let mut output = Vec::with_capacity(values.len());
    for (index, value) in values.enumerate() {
        let rounded = round(value);
        if !finite(&rounded) {
            return Err(NotFinite { index, value });
        }
        output.push(rounded);
    }
    Ok(TensorData::new(output, shape.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even_and_reports_overflow() {
        let bytes = [1.0_f32 + 2.0_f32.powi(-8), 70_000.0]
            .map(f32::to_le_bytes)
            .concat();
        let data = convert(&bytes, Dtype::F32, &[2], DType::BF16).unwrap();
        let expected = [bf16::from_f32(1.0), bf16::from_f32(70_000.0)];
        assert_eq!(data.as_slice::<bf16>().unwrap(), expected);
        let overflow = NotFinite {
            index: 1,
            value: 70_000.0,
        };
        let found = convert(&bytes, Dtype::F32, &[2], DType::F16).unwrap_err();
        assert_eq!(found, overflow);
    }

    #[test]
    fn nan_is_refused_in_every_dtype() {
        let bytes = bf16::NAN.to_le_bytes();
        for to in [DType::F32, DType::F16, DType::BF16] {
            let found = convert(&bytes, Dtype::BF16, &[1], to).unwrap_err();
            assert!(found.index == 0 && found.value.is_nan());
        }
    }
}
