//! Values on the host.

use half::{bf16, f16};
use qwen3_config::Precision;

/// A number that weights are read as: f32, f16 or bf16.
pub trait HostValue: Copy + Default {
    /// Which of them.
    const PRECISION: Precision;

    /// The nearest number, ties to even.
    fn round(value: f32) -> Self;

    /// Neither NaN nor infinite?
    fn is_finite(self) -> bool;

    /// Little-endian `bytes` of numbers of this type.
    fn copy(bytes: &[u8], values: &mut [Self]);

    /// Little-endian `bytes` of as many `stored` numbers as there are `values`, each rounded to nearest even.
    ///
    /// # Errors
    /// The first that is NaN or infinite once rounded.
    ///
    /// # Panics
    /// When there are more bytes, or fewer.
    fn decode(bytes: &[u8], stored: Precision, values: &mut [Self]) -> Result<(), NotFinite> {
        assert_eq!(bytes.len(), values.len() * stored.bytes(), "a number for each value");
        if stored == Self::PRECISION {
            Self::copy(bytes, values);
        } else {
            widened(bytes, stored, values, Self::round);
        }
        // Without a way out of the loop, so that many are looked at in one instruction.
        if values.iter().fold(true, |all, value| all & value.is_finite()) {
            return Ok(());
        }
        let index = values.iter().position(|value| !value.is_finite()).expect("one is not");
        let mut value = [0.0];
        let size = stored.bytes();
        let bytes = &bytes[index * size..][..size];
        widen(bytes, stored, &mut value);
        Err(NotFinite { index, value: value[0] })
    }
}

/// A value that is not finite in the format asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite {
    /// Its place among the values.
    pub index: usize,
    /// The value in the file.
    pub value: f32,
}

/// Little-endian `bytes` of as many `stored` numbers as there are `values`, as f32, exactly.
pub fn widen(bytes: &[u8], stored: Precision, values: &mut [f32]) {
    widened(bytes, stored, values, |value| value);
}

/// Writes what `of` makes of every number.
fn widened<T>(bytes: &[u8], stored: Precision, values: &mut [T], of: impl Fn(f32) -> T) {
    match stored {
        Precision::F32 => convert(bytes, values, |bytes| of(f32::from_le_bytes(bytes))),
        Precision::F16 => convert(bytes, values, |bytes| of(f16::from_le_bytes(bytes).to_f32())),
        Precision::BF16 => convert(bytes, values, |bytes| of(bf16::from_le_bytes(bytes).to_f32())),
    }
}

fn convert<T, const N: usize>(bytes: &[u8], values: &mut [T], read: impl Fn([u8; N]) -> T) {
    for (bytes, value) in bytes.as_chunks::<N>().0.iter().zip(values) {
        *value = read(*bytes);
    }
}

impl HostValue for f32 {
    const PRECISION: Precision = Precision::F32;

    fn round(value: f32) -> Self {
        value
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }

    fn copy(bytes: &[u8], values: &mut [Self]) {
        convert(bytes, values, Self::from_le_bytes);
    }
}

impl HostValue for f16 {
    const PRECISION: Precision = Precision::F16;

    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }

    fn copy(bytes: &[u8], values: &mut [Self]) {
        convert(bytes, values, Self::from_le_bytes);
    }
}

impl HostValue for bf16 {
    const PRECISION: Precision = Precision::BF16;

    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }

    fn copy(bytes: &[u8], values: &mut [Self]) {
        convert(bytes, values, Self::from_le_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even_and_reports_overflow() {
        let bytes = [1.0_f32 + 2.0_f32.powi(-8), 70_000.0].map(f32::to_le_bytes).concat();
        let mut found = [bf16::ZERO; 2];
        bf16::decode(&bytes, Precision::F32, &mut found).unwrap();
        assert_eq!(found, [bf16::from_f32(1.0), bf16::from_f32(70_000.0)]);
        let overflow = NotFinite { index: 1, value: 70_000.0 };
        assert_eq!(f16::decode(&bytes, Precision::F32, &mut [f16::ZERO; 2]), Err(overflow));
    }

    #[test]
    fn nan_is_refused_in_every_dtype() {
        fn check<T: HostValue>() {
            let found = T::decode(&bf16::NAN.to_le_bytes(), Precision::BF16, &mut [T::default()]);
            assert!(found.is_err_and(|bad| bad.index == 0 && bad.value.is_nan()));
        }
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
