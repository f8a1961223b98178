//! AVX-512: sixteen lanes, 32 registers; with products of bf16 pairs, or of tiles of them.

use std::arch::x86_64::*;

use super::pairs::{PAIR_COLUMNS, PAIR_ROWS};
use super::{Kernel, Lanes, amx, pairs};
use crate::element::{Element, Kind};

/// What multiplies pairs of bf16: nothing, `vdpbf16ps`, or AMX.
pub(super) const NOTHING: u8 = 0;
pub(super) const VECTORS: u8 = 1;
pub(super) const TILES: u8 = 2;

/// Made in [`enter`] alone. What multiplies pairs is a value, so that kernels are compiled once for all three.
#[derive(Clone, Copy)]
pub(super) struct Avx512 {
    pairs: u8,
}

/// # Safety
/// The machine has AVX-512 F, BW, DQ and VL, and what `pairs` says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K, pairs: u8) -> K::Output {
    kernel.compute(Avx512 { pairs })
}

// SAFETY of every block below: there is an `Avx512`, so the machine has the instructions.
impl Lanes for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load_at<E: Element>(self, from: *const E) -> __m512 {
        unsafe {
            match E::KIND {
                Kind::F32 => _mm512_loadu_ps(from.cast()),
                Kind::Bf16 => {
                    let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                }
                Kind::F16 => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_at<E: Element>(self, to: *mut E, value: __m512) {
        unsafe {
            match E::KIND {
                Kind::F32 => _mm512_storeu_ps(to.cast(), value),
                Kind::Bf16 => _mm256_storeu_si256(to.cast(), bf16_bits(value)),
                Kind::F16 => {
                    _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value))
                }
            }
        }
    }

    #[inline(always)]
    fn parts<E: Element>(self) -> bool {
        E::KIND == Kind::Bf16
    }

    #[inline(always)]
    unsafe fn load_two<E: Element>(self, from: *const E) -> [__m512; 2] {
        unsafe {
            if E::KIND != Kind::Bf16 {
                return [self.load_at(from), self.load_at(from.add(Self::LANES))];
            }
            // A shift and a mask for two vectors, where in order they take two of each and more of the load.
            let bits = _mm512_loadu_si512(from.cast());
            let odd = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(odd)]
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn power_of_two(self, a: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    fn has_pairs(self) -> bool {
        self.pairs != NOTHING
    }

    #[inline(always)]
    unsafe fn pairs(self, depth: usize, a: (*const u32, usize), b: *const u32, c: (*mut f32, usize)) {
        unsafe {
            match self.pairs {
                VECTORS => vectors(depth, a, b, c),
                TILES => amx::pairs(depth, a, b, c),
                _ => pairs::emulate(depth, a, b, c),
            }
        }
    }

    #[inline(always)]
    fn peak_of_pairs(self, rounds: usize) -> f64 {
        unsafe { if self.pairs == TILES { amx::peak(rounds) } else { peak(rounds) } }
    }
}

/// The nearest bf16, ties to even, as `half` rounds.
///
/// # Safety
/// The machine has AVX-512 F.
#[inline(always)]
unsafe fn bf16_bits(value: __m512) -> __m256i {
    unsafe {
        let bits = _mm512_castps_si512(value);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        let chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(chosen))
    }
}

/// [`Lanes::pairs`] with `vdpbf16ps`: 12 rows at a time.
///
/// # Safety
/// Those of `Lanes::pairs`, and the machine has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn vectors(
    depth: usize,
    (a, a_stride): (*const u32, usize),
    b: *const u32,
    (c, c_stride): (*mut f32, usize),
) {
    const ROWS: usize = 12;
    const { assert!(PAIR_ROWS.is_multiple_of(ROWS) && PAIR_COLUMNS == 32) };
    unsafe {
        for row in (0..PAIR_ROWS).step_by(ROWS) {
            let a = a.add(row * a_stride);
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for k in 0..depth {
                let low = _mm512_loadu_si512(b.add(k * PAIR_COLUMNS).cast());
                let high = _mm512_loadu_si512(b.add(k * PAIR_COLUMNS + 16).cast());
                for r in 0..ROWS {
                    let factor = as_pairs(_mm512_set1_epi32(*a.add(r * a_stride + k) as i32));
                    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], factor, as_pairs(low));
                    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], factor, as_pairs(high));
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (half, sum) in sums.iter().enumerate() {
                    let to = c.add((row + r) * c_stride + 16 * half);
                    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), *sum));
                }
            }
        }
    }
}

#[inline(always)]
fn as_pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of anything.
    unsafe { std::mem::transmute(bits) }
}

/// `rounds` rounds of independent products of pairs; gives the operations of a round.
///
/// # Safety
/// The machine has AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn peak(rounds: usize) -> f64 {
    const SUMS: usize = 12;
    let factor = as_pairs(_mm512_set1_epi32(std::hint::black_box(0x3f00_3f00)));
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for index in 0..SUMS {
            sums[index] = _mm512_dpbf16_ps(sums[index], factor, factor);
        }
    }
    std::hint::black_box(sums);
    (SUMS * 16 * 4) as f64
}
