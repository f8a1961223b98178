use std::fmt;

use serde::{Deserialize, Serialize};

/// A tolerance for each element instead of limits: `|error| <= atol + rtol * |expected|`, as `numpy.allclose` has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// What any element may be off by.
    pub atol: f64,
    /// On top of it, this share of what is expected.
    pub rtol: f64,
}

impl Tolerance {
    /// Error over tolerance, of the worst element; at most 1 passes. Infinite when a value is not finite, or an element
    /// without any tolerance differs.
    pub fn ratio(self, observed: &[f64], expected: &[f64]) -> f64 {
        let ratios = observed.iter().zip(expected).map(|(observed, expected)| {
            let error = (observed - expected).abs();
            let ratio = if error == 0.0 { 0.0 } else { error / (self.atol + self.rtol * expected.abs()) };
            if ratio.is_nan() { f64::INFINITY } else { ratio }
        });
        ratios.fold(0.0, f64::max)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { atol, rtol } = self;
        // As they are written: 1e-9 is not 0.000000001.
        write!(f, "every |error| <= atol + rtol * |expected|, atol {atol:?}, rtol {rtol:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_its_own_tolerance() {
        let tolerance = Tolerance { atol: 0.5, rtol: 0.25 };
        let ratio = |observed: &[f64], expected: &[f64]| tolerance.ratio(observed, expected);
        assert_eq!(ratio(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        // 0.5 + 0.25 * 2 = 1, of the expected values and not of the observed ones.
        assert_eq!(ratio(&[3.0], &[2.0]), 1.0);
        assert_eq!(ratio(&[2.0], &[3.0]), 0.8);
        assert_eq!(ratio(&[100.0, 0.5], &[100.0, 0.0]), 1.0);
        assert_eq!(ratio(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(ratio(&[f64::INFINITY], &[1.0]), f64::INFINITY);
        let said = "every |error| <= atol + rtol * |expected|, atol 1e-9, rtol 0.25";
        assert_eq!(Tolerance { atol: 1e-9, ..tolerance }.to_string(), said);
        let none = Tolerance { atol: 0.0, rtol: 0.0 };
        assert_eq!((none.ratio(&[0.0], &[0.0]), none.ratio(&[1e-9], &[0.0])), (0.0, f64::INFINITY));
    }
}
