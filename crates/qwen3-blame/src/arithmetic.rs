//! In what arithmetic an implementation computes.

use std::borrow::Cow;

use half::{bf16, f16};
use qwen3_config::Precision;

use crate::formats::{Format, Formats};
use crate::ops::dot;
use crate::rounding::round;

/// How numbers are rounded on the way through the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arithmetic {
    /// float64 throughout: what is right.
    Exact,
    /// The same, but for values that are held in these formats.
    Held(Formats),
    /// As an honest implementation computes in a dtype: operands in the dtype, sums in f32, every operation's
    /// result rounded where Transformers rounds it.
    Rounded {
        /// The dtype.
        dtype: Precision,
        /// Which of many such implementations: 0 rounds to the nearest; the others go up or down, by as much as
        /// one unit in the last place, each in its own way, and take their sums in another order.
        draw: u32,
    },
}

impl Arithmetic {
    /// Rounds what an operation gave.
    pub fn round(self, mut values: Vec<f64>) -> Vec<f64> {
        if let Self::Rounded { dtype, draw } = self {
            for value in &mut values {
                let up = if draw == 0 { 0.0 } else { 0.5 * dither(value.to_bits() ^ u64::from(draw)) };
                *value = round(*value + up * dtype.ulp(*value), dtype);
            }
        }
        values
    }

    /// A number that an implementation has in its dtype: a weight, a constant, what lies between two operations.
    pub fn held(self, value: f64) -> f64 {
        match self {
            Self::Exact | Self::Held(_) => value,
            Self::Rounded { dtype, .. } => round(value, dtype),
        }
    }

    /// A number that is `value` when it is rounded to the dtype: what another implementation may have instead.
    pub fn beside(self, value: f64) -> f64 {
        match self {
            Self::Exact | Self::Held(_) => value,
            Self::Rounded { dtype, draw } => {
                value + dither(value.to_bits() ^ u64::from(draw)) * dtype.ulp(value)
            }
        }
    }

    /// A number that an implementation has in f32 whatever its dtype is, as inside of norms, softmax and sums.
    pub fn inside(self, value: f64) -> f64 {
        match self {
            Self::Exact | Self::Held(_) => value,
            Self::Rounded { .. } => f64::from(value as f32),
        }
    }

    /// The formats that values are held in, none of most.
    pub fn formats(self) -> Formats {
        if let Self::Held(formats) = self { formats } else { Formats::default() }
    }

    /// The same in the product of a router.
    pub fn of_router(self) -> Self {
        match self {
            Self::Held(formats) if formats.spares_routers => {
                Self::Held(Formats { activations: None, weights: None, ..formats })
            }
            other => other,
        }
    }

    /// Rounds the values of one kind to the format that they are held in, in rows of `width`, if they are.
    /// Nothing is copied where they are not.
    pub fn in_format<'x>(
        self,
        kind: impl FnOnce(&Formats) -> Option<Format>,
        values: impl Into<Cow<'x, [f64]>>,
        width: usize,
    ) -> Cow<'x, [f64]> {
        let mut values = values.into();
        if let Some(format) = kind(&self.formats()) {
            values.to_mut().chunks_mut(width).for_each(|row| format.round(row));
        }
        values
    }

    /// The product of two rows of values in the dtype.
    pub fn dot(self, a: &[f64], b: &[f64]) -> f64 {
        match self {
            Self::Rounded { draw, .. } => sum_of_products(a, b, draw, |x| x as f32),
            Self::Exact | Self::Held(_) => dot(a, b),
        }
    }

    /// The same of values that were narrowed before, as all are that a dtype holds.
    pub fn dot_narrow(self, a: &[f32], b: &[f32]) -> f64 {
        let draw = if let Self::Rounded { draw, .. } = self { draw } else { 0 };
        sum_of_products(a, b, draw, |x| x)
    }

    /// Weights as an implementation has them in its dtype.
    pub fn held_narrow(self, weights: Cow<'_, [f32]>) -> Cow<'_, [f32]> {
        let rounded = |round: fn(f32) -> f32, weights: &[f32]| weights.iter().map(|w| round(*w)).collect();
        match self {
            Self::Rounded { dtype: Precision::BF16, .. } => rounded(|w| bf16::from_f32(w).to_f32(), &weights),
            Self::Rounded { dtype: Precision::F16, .. } => rounded(|w| f16::from_f32(w).to_f32(), &weights),
            _ => weights,
        }
    }

    /// Are sums in f32?
    pub fn is_narrow(self) -> bool {
        matches!(self, Self::Rounded { .. })
    }

    /// The sum of squares, one after the other.
    pub fn squares(self, x: &[f64]) -> f64 {
        let Self::Rounded { draw, .. } = self else {
            return dot(x, x);
        };
        let (last, first) = x.split_at(beginning(x.len(), draw));
        let squares = first.iter().chain(last).map(|x| (*x as f32).powi(2));
        f64::from(squares.sum::<f32>())
    }
}

/// A product of rows summed in f32, each draw in an order of its own.
fn sum_of_products<T: Copy>(a: &[T], b: &[T], draw: u32, narrow: impl Fn(T) -> f32 + Copy) -> f64 {
    const LANES: usize = 8;
    let part = |a: &[T], b: &[T]| {
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let mut sums = [0.0_f32; LANES];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                sums[lane] += narrow(a[lane]) * narrow(b[lane]);
            }
        }
        let mut sum = 0.0;
        for lane in sums {
            sum += lane;
        }
        for (a, b) in a_rest.iter().zip(b_rest) {
            sum += narrow(*a) * narrow(*b);
        }
        sum
    };
    let start = beginning(a.len(), draw);
    f64::from(part(&a[start..], &b[start..]) + part(&a[..start], &b[..start]))
}

/// Where a sum of `length` terms begins: another place is another order of summation.
fn beginning(length: usize, draw: u32) -> usize {
    length * (draw as usize % 8) / 8
}

/// A number between -0.5 and 0.5 that looks random, the same for the same bits. The finaliser of SplitMix64.
fn dither(bits: u64) -> f64 {
    let mut bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}
