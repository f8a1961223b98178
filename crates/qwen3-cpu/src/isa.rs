#![allow(unsafe_code)]
// Indices, not iterators: see `Lanes`.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]
//! Vector instructions: [`Lanes`] is what a kernel needs of them, [`run`] the one door from a set to its code.

#[cfg(target_arch = "x86_64")]
mod amx;
mod ask;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod convert;
mod dot;
mod math;
mod order;
mod pairs;
mod portable;
mod product;
mod transpose;
mod weighted;

use crate::element::Element;
use crate::instruction_set::InstructionSet;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::is_granted as amx_is_granted;
pub(crate) use ask::{Ahead, LINE, ask_for};
pub(crate) use convert::{convert, round_to};
pub(crate) use dot::dot;
pub(crate) use math::{exp, silu};
pub(crate) use order::{arrange, restore};
pub(crate) use pairs::{PAIR_COLUMNS, PAIR_DEPTH, PAIR_ROWS, product_of_pairs};
pub(crate) use product::{MAX_VECTORS, calls, product};
pub(crate) use transpose::transpose;
pub(crate) use weighted::add_weighted;

/// Lanes of the widest set.
pub(crate) const MOST_LANES: usize = 16;

/// Vectors of f32 of an instruction set. A value is the proof that the machine has it.
///
/// Everything is inlined into [`run`]'s functions, which are compiled for the set. Loops over vectors count with an
/// index: iterators of the standard library are not always inlined there.
pub(crate) trait Lanes: Copy {
    /// `LANES` f32 numbers.
    type V: Copy;
    const LANES: usize;
    /// Rows of the register block of a product, which is two vectors wide.
    const ROWS: usize;
    /// Whether there are 32 registers and not 16.
    const WIDE: bool;

    fn splat(self, value: f32) -> Self::V;
    /// # Safety
    /// `from` is valid for `LANES` elements.
    unsafe fn load_at<E: Element>(self, from: *const E) -> Self::V;
    /// # Safety
    /// `to` is valid for `LANES` elements.
    unsafe fn store_at<E: Element>(self, to: *mut E, value: Self::V);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number.
    fn round(self, a: Self::V) -> Self::V;
    /// Two to the power of whole numbers from -127 to 127, and zero for the first.
    fn power_of_two(self, a: Self::V) -> Self::V;
    fn sum(self, a: Self::V) -> f32;

    /// Whether [`load_two`](Self::load_two) gives what stands at even and at odd places of two vectors of `E`, which
    /// may be faster than in order.
    #[inline(always)]
    fn parts<E: Element>(self) -> bool {
        false
    }

    /// The `2 * LANES` from `from` on, in order or as [`parts`](Self::parts) says; what is multiplied with them is
    /// [arranged](arrange) alike.
    ///
    /// # Safety
    /// `from` is valid for `2 * LANES` elements.
    #[inline(always)]
    unsafe fn load_two<E: Element>(self, from: *const E) -> [Self::V; 2] {
        // SAFETY: the caller's.
        unsafe { [self.load_at(from), self.load_at(from.add(Self::LANES))] }
    }

    /// Whether pairs of bf16 are multiplied faster than numbers are.
    #[inline(always)]
    fn has_pairs(self) -> bool {
        false
    }

    /// Does what is fastest with pairs of bf16 in registers for `rounds` rounds; gives the operations of a round.
    #[inline(always)]
    fn peak_of_pairs(self, _rounds: usize) -> f64 {
        unreachable!("only asked where `has_pairs`")
    }

    /// Adds to `c` `[PAIR_ROWS, PAIR_COLUMNS]` the product of `a` `[PAIR_ROWS, depth]` and `b`
    /// `[depth, PAIR_COLUMNS]`, whose elements are pairs of bf16; see [`product_of_pairs`].
    ///
    /// # Safety
    /// The three are as large as this says, with these strides in elements; `depth` is a multiple of `PAIR_DEPTH`.
    #[inline(always)]
    unsafe fn pairs(self, depth: usize, a: (*const u32, usize), b: *const u32, c: (*mut f32, usize)) {
        // SAFETY: the caller's.
        unsafe { pairs::emulate(depth, a, b, c) }
    }

    /// `LANES` of `from`, from `at` on.
    #[inline(always)]
    fn load<E: Element>(self, from: &[E], at: usize) -> Self::V {
        assert!(at < from.len() && from.len() - at >= Self::LANES);
        // SAFETY: as just seen.
        unsafe { self.load_at(from.as_ptr().add(at)) }
    }

    /// Writes `LANES` of `to`, from `at` on.
    #[inline(always)]
    fn store<E: Element>(self, to: &mut [E], at: usize, value: Self::V) {
        assert!(at < to.len() && to.len() - at >= Self::LANES);
        // SAFETY: as just seen.
        unsafe { self.store_at(to.as_mut_ptr().add(at), value) }
    }
}

/// Elements of a matrix of some rows with a stride, at least one.
///
/// # Panics
/// When there is no such number: what is checked against it is read without another look.
fn extent(rows: usize, stride: usize, columns: usize) -> usize {
    let before = (rows - 1).checked_mul(stride);
    before.and_then(|before| before.checked_add(columns)).expect("a matrix fits the address space")
}

/// Something to compute with the vectors of any set. `compute` is `#[inline(always)]`, or it is compiled for none.
pub(crate) trait Kernel {
    type Output;
    fn compute<S: Lanes>(self, lanes: S) -> Self::Output;
}

/// Computes `kernel` with the instructions of `set`.
///
/// # Panics
/// When this machine does not have them.
pub(crate) fn run<K: Kernel>(set: InstructionSet, kernel: K) -> K::Output {
    assert!(set.is_available(), "this machine has no {set}");
    match set {
        // SAFETY of all: the set is available.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2::enter(kernel) },
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { avx512::enter(kernel, avx512::NOTHING) },
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512Bf16 => unsafe { avx512::enter(kernel, avx512::VECTORS) },
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Amx => unsafe { avx512::enter(kernel, avx512::TILES) },
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon => portable::enter::<true, K>(kernel),
        _ => portable::enter::<false, K>(kernel),
    }
}
