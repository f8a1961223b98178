//! Values on the host.

use half::{bf16, f16};
use qwen3_config::Precision;

/// A number that weights are read as: f32, f16 or bf16.
pub trait HostValue: Copy {
    /// Which of them.
    const PRECISION: Precision;

    /// The nearest number, ties to even.
    fn round(value: f32) -> Self;

    /// Neither NaN nor infinite?
    fn is_finite(self) -> bool;

    /// Little-endian `bytes` of `stored` numbers.
    ///
    /// # Errors
    /// The first that is NaN or infinite once rounded.
    fn decode(bytes: &[u8], stored: Precision) -> Result<Vec<Self>, NotFinite> {
        match stored {
            Precision::F32 => decode(bytes, f32::from_le_bytes),
            Precision::F16 => decode(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Precision::BF16 => decode(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
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

fn decode<T: HostValue, const N: usize>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> f32,
) -> Result<Vec<T>, NotFinite> {
    let (values, _) = bytes.as_chunks::<N>();
    let mut decoded = Vec::with_capacity(values.len());
    for (index, bytes) in values.iter().enumerate() {
        let value = read(*bytes);
        let rounded = T::round(value);
        if !rounded.is_finite() {
            return Err(NotFinite { index, value });
        }
        decoded.push(rounded);
    }
    Ok(decoded)
}

impl HostValue for f32 {
    const PRECISION: Precision = Precision::F32;

    fn round(value: f32) -> Self {
        value
    }

    fn is_finite(self) -> bool {
        self.is_finite()
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
}

impl HostValue for bf16 {
    const PRECISION: Precision = Precision::BF16;

    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even_and_reports_overflow() {
        let bytes = [1.0_f32 + 2.0_f32.powi(-8), 70_000.0].map(f32::to_le_bytes).concat();
        let found = bf16::decode(&bytes, Precision::F32).unwrap();
        assert_eq!(found, [bf16::from_f32(1.0), bf16::from_f32(70_000.0)]);
        let overflow = NotFinite { index: 1, value: 70_000.0 };
        assert_eq!(f16::decode(&bytes, Precision::F32), Err(overflow));
    }

    #[test]
    fn nan_is_refused_in_every_dtype() {
        fn check<T: HostValue>() {
            let found = T::decode(&bf16::NAN.to_le_bytes(), Precision::BF16).map(|_| ());
            assert!(found.is_err_and(|bad| bad.index == 0 && bad.value.is_nan()));
        }
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
