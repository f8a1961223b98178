//! Plain Rust, four lanes, which compilers turn into the baseline's vectors: SSE2, or NEON, which every 64-bit Arm
//! processor has.

use super::{Kernel, Lanes};
use crate::element::Element;

/// With the 32 registers and the fused multiply-add of NEON, or with 16 and none.
#[derive(Clone, Copy)]
pub(super) struct Portable<const NEON: bool>;

pub(super) fn enter<const NEON: bool, K: Kernel>(kernel: K) -> K::Output {
    kernel.compute(Portable::<NEON>)
}

const LANES: usize = 4;

#[inline(always)]
fn each(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl<const NEON: bool> Lanes for Portable<NEON> {
    type V = [f32; LANES];
    const LANES: usize = LANES;
    const ROWS: usize = if NEON { 12 } else { 6 };
    const WIDE: bool = NEON;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load_at<E: Element>(self, from: *const E) -> Self::V {
        // SAFETY: the caller's.
        let from = unsafe { from.cast::<[E; LANES]>().read() };
        from.map(E::widen)
    }

    #[inline(always)]
    unsafe fn store_at<E: Element>(self, to: *mut E, value: Self::V) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[E; LANES]>().write(value.map(E::narrow)) }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if NEON {
            [
                a[0].mul_add(b[0], c[0]),
                a[1].mul_add(b[1], c[1]),
                a[2].mul_add(b[2], c[2]),
                a[3].mul_add(b[3], c[3]),
            ]
        } else {
            // `f32::mul_add` is a call where the baseline has no such instruction.
            self.add(self.mul(a, b), c)
        }
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 leaves no bits for a fraction; for numbers below 2^22, as those of an exponent.
        const SHIFT: f32 = 12_582_912.0;
        a.map(|a| (a + SHIFT) - SHIFT)
    }

    #[inline(always)]
    fn power_of_two(self, a: Self::V) -> Self::V {
        a.map(|a| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, a: Self::V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
}
