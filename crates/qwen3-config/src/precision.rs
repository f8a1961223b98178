use std::fmt;

use serde::{Deserialize, Serialize};

/// A floating-point format of weights and computations: the one list of dtypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of binary32.
    BF16,
}

impl Precision {
    /// All formats, in their order.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// The name on command lines, in manifests and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }

    /// PyTorch's name, as `torch_dtype` in a `config.json` has it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Bits of the significand behind the point; smallest and largest exponent of a normal number.
    fn format(self) -> (i32, i32, i32) {
        match self {
            Self::F32 => (23, -126, 127),
            Self::F16 => (10, -14, 15),
            Self::BF16 => (7, -126, 127),
        }
    }

    /// The distance from 1 to the next number: 2^-23, 2^-10, 2^-7.
    pub fn epsilon(self) -> f64 {
        power_of_two(-self.format().0)
    }

    /// The distance between neighbours at |value|: that of the binade that holds it.
    ///
    /// Below the smallest normal number it is the smallest subnormal; beyond the largest finite number,
    /// and for infinities and NaN, it is the spacing of the largest binade.
    pub fn ulp(self, value: f64) -> f64 {
        let (bits, min, max) = self.format();
        let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        power_of_two(exponent.clamp(min, max) - bits)
    }
}

/// 2^exponent, for exponents of normal f64 numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::Precision::{self, BF16, F16, F32};

    #[test]
    fn names_go_both_ways() {
        for dtype in Precision::ALL {
            let json = format!("\"{dtype}\"");
            assert_eq!(serde_json::to_string(&dtype).unwrap(), json);
            assert_eq!(serde_json::from_str::<Precision>(&json).unwrap(), dtype);
        }
        assert!(serde_json::from_str::<Precision>("\"F32\"").is_err());
        assert_eq!(format!("{F16:>5}|"), "  f16|");
    }

    #[test]
    fn spacing() {
        for (dtype, epsilon, smallest) in [
            (F32, f64::from(f32::EPSILON), f64::from(f32::from_bits(1))),
            (F16, f16::EPSILON.to_f64(), f16::from_bits(1).to_f64()),
            (BF16, bf16::EPSILON.to_f64(), bf16::from_bits(1).to_f64()),
        ] {
            assert_eq!(dtype.epsilon(), epsilon);
            assert_eq!(dtype.ulp(1.0), epsilon);
            assert_eq!(dtype.ulp(-1.999), epsilon);
            assert_eq!(dtype.ulp(2.0), 2.0 * epsilon);
            assert_eq!(dtype.ulp(0.999), epsilon / 2.0);
            for tiny in [0.0, -0.0, smallest, 1e-300, 5e-324] {
                assert_eq!(dtype.ulp(tiny), smallest);
            }
            for huge in [1e300, f64::INFINITY, f64::NAN] {
                assert!(dtype.ulp(huge).is_finite());
            }
        }
        assert_eq!(F16.ulp(65504.0), 32.0);
        assert_eq!(F16.ulp(f64::INFINITY), 32.0);
    }
}
