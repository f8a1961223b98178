//! Comparing a prediction with what was observed.

use qwen3_trace::TensorLimit;

/// How far a prediction is from an observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    /// Norm of the difference over the larger norm of the two.
    pub relative: f64,
    /// The worse of largest error and rms error, over their limits.
    pub ratio: f64,
}

impl Residual {
    /// No difference.
    pub const NONE: Self = Self { relative: 0.0, ratio: 0.0 };

    /// A difference that is not finite.
    pub const INFINITE: Self = Self { relative: f64::INFINITY, ratio: f64::INFINITY };

    /// Nothing was computed to compare with.
    pub const UNKNOWN: Self = Self { relative: f64::NAN, ratio: f64::NAN };

    /// Compares; anything not finite makes both infinite.
    pub fn of(predicted: &[f64], observed: &[f64], limit: &TensorLimit) -> Self {
        let (mut errors, mut squares, mut others) = (0.0, 0.0, 0.0);
        for (p, o) in predicted.iter().zip(observed) {
            let error = p - o;
            if !error.is_finite() {
                return Self::INFINITE;
            }
            errors += error * error;
            squares += o * o;
            others += p * p;
        }
        let relative = if errors == 0.0 { 0.0 } else { (errors / squares.max(others)).sqrt() };
        Self { relative, ratio: limit.ratio(predicted, observed) }
    }

    /// The worse of two.
    pub fn worse(self, other: Self) -> Self {
        Self { relative: self.relative.max(other.relative), ratio: self.ratio.max(other.ratio) }
    }

    /// Does a prediction with this residual explain what one with residual `before` does not?
    ///
    /// It has to come within the limits, and much closer than before: noise a little beyond its limit is no
    /// mistake that changes next to nothing. A mistake may make a layer more sensitive to rounding than the
    /// right layer is, for which the limits are made; so some times the limit passes when nearly all of the
    /// error is gone.
    pub fn explains(self, before: Self) -> bool {
        let gone = |share: f64| self.relative < before.relative * share;
        let within = self.ratio <= 0.65 && self.ratio < 0.25 * before.ratio;
        (self.ratio <= 1.0 && gone(0.4)) || (within && gone(0.6)) || (self.ratio <= 8.0 && gone(0.02))
    }

    /// The same of a prediction in another precision. Where a value lies between two of a format, noise decides which it
    /// becomes, so that some are off by more than the limits of the precision that was stated.
    pub fn explains_as_rounding(self, before: Self) -> bool {
        self.relative < before.relative * 0.3 && self.ratio < before.ratio
    }

    /// The same of a prediction with a number that was fitted, or of several mistakes: those can be bent to
    /// come near what something else does, so they have to leave no more than right runs do.
    pub fn explains_closely(self, before: Self) -> bool {
        self.ratio <= 0.65 && self.explains(before)
    }

    /// Does this prediction explain as much as one with the residual `other`?
    pub fn leaves_as_little(self, other: Self) -> bool {
        self.relative <= 1.5 * other.relative
    }
}
