use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The floating-point format a case runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestDType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of binary32.
    Bf16,
}

impl TestDType {
    /// All formats, in their order.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The name in the manifest and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bits of the significand behind the point; smallest and largest exponent of a normal number.
    fn format(self) -> (i32, i32, i32) {
        match self {
            Self::F32 => (23, -126, 127),
            Self::F16 => (10, -14, 15),
            Self::Bf16 => (7, -126, 127),
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

    /// The number of this format that is nearest to `value`, ties to even; infinity beyond the range.
    ///
    /// Rounds once, which `half::f16::from_f64` does not promise.
    pub fn round(self, value: f64) -> f64 {
        let ulp = self.ulp(value);
        let rounded = (value / ulp).round_ties_even() * ulp;
        let (_, _, max) = self.format();
        match rounded.abs() >= 2.0 * power_of_two(max) {
            true => f64::INFINITY.copysign(rounded),
            false => rounded,
        }
    }
}

/// 2^exponent, for exponents of normal f64 numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl fmt::Display for TestDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TestDType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| format!("unknown dtype `{text}`, expected f32, f16 or bf16"))
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::TestDType::{self, Bf16, F16, F32};

    #[test]
    fn names_go_both_ways() {
        for dtype in TestDType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
            assert_eq!(
                serde_json::to_string(&dtype).unwrap(),
                format!("\"{dtype}\"")
            );
        }
        assert!("F32".parse::<TestDType>().is_err());
        assert_eq!(format!("{F16:>5}|"), "  f16|");
    }

    #[test]
    fn spacing() {
        for (dtype, epsilon, smallest) in [
            (F32, f64::from(f32::EPSILON), f64::from(f32::from_bits(1))),
            (F16, f16::EPSILON.to_f64(), f16::from_bits(1).to_f64()),
            (Bf16, bf16::EPSILON.to_f64(), bf16::from_bits(1).to_f64()),
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

    #[test]
    fn every_half_is_its_own_rounding_and_ties_go_to_even() {
        for bits in 0..0x7c00_u16 {
            let (low, high) = (
                f16::from_bits(bits).to_f64(),
                f16::from_bits(bits + 1).to_f64(),
            );
            assert_eq!(F16.round(low), low);
            if high.is_finite() {
                let middle = (low + high) / 2.0;
                let even = if bits % 2 == 0 { low } else { high };
                assert_eq!(F16.round(middle), even, "{middle}");
                assert_eq!(F16.round(-middle), -even);
                assert_eq!(F16.round(middle.next_up()), high, "{middle} and a little");
                assert_eq!(F16.round(middle.next_down()), low);
            }
        }
    }

    #[test]
    fn rounds_as_the_hardware_does() {
        let mut state = 1_u64;
        for _ in 0..100_000 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let value = f32::from_bits((state >> 32) as u32);
            if !value.is_nan() {
                let wide = f64::from(value);
                assert_eq!(Bf16.round(wide), bf16::from_f32(value).to_f64(), "{value}");
                assert_eq!(F16.round(wide), f16::from_f32(value).to_f64(), "{value}");
            }
            let value = f64::from_bits(state);
            if value.is_finite() {
                assert_eq!(F32.round(value), f64::from(value as f32), "{value}");
            }
            let value = 1.0 + (state >> 12) as f64 / (1_u64 << 52) as f64;
            assert_eq!(F32.round(value), f64::from(value as f32), "{value}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(F16.round(65519.99), 65504.0);
        assert_eq!(F16.round(65520.0), f64::INFINITY);
        assert_eq!(F16.round(-1e6), f64::NEG_INFINITY);
        assert_eq!(F32.round(f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(Bf16.round(f64::NAN).is_nan());
        assert!(F32.round(-0.0).is_sign_negative());
        assert_eq!(F32.round(5e-324), 0.0);
    }
}
