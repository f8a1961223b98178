//! Memory asked for before it is read.

use std::ops::Range;

use crate::element::Element;

/// Bytes of a line of the cache, which come together; a vector that lies in two is loaded slower.
pub(crate) const LINE: usize = 64;

/// Asks for `columns` of `rows` of a matrix, `stride` elements from a row to the next, so that they are in a cache when
/// they are read; what lies outside of `data` is left out.
#[inline(always)]
pub(crate) fn ask_for<E>(data: &[E], [rows, columns]: [Range<usize>; 2], stride: usize) {
    for row in rows {
        let Some(row) = data.get(row * stride + columns.start..row * stride + columns.end) else { return };
        let mut at = 0;
        while at < size_of_val(row) {
            ask::<NEAREST>(row.as_ptr().cast::<u8>().wrapping_add(at));
            at += LINE;
        }
    }
}

/// Memory that is asked for piece by piece while something else is computed.
pub(crate) struct Ahead<'a> {
    bytes: &'a [u8],
    at: usize,
    step: usize,
}

impl<'a> Ahead<'a> {
    /// All of `data` in so many `calls` of [`ask`](Self::ask).
    pub(crate) fn new<E: Element>(data: &'a [E], calls: usize) -> Self {
        let bytes = bytemuck::cast_slice::<E, u8>(data);
        Self { bytes, at: 0, step: bytes.len().div_ceil(calls.max(1)).next_multiple_of(LINE) }
    }

    /// Asks for the next piece.
    #[inline(always)]
    pub(crate) fn ask(&mut self) {
        if self.at < self.bytes.len() {
            for line in (0..self.step).step_by(LINE) {
                ask::<NEAR>(self.bytes.as_ptr().wrapping_add(self.at + line));
            }
            self.at += self.step;
        }
    }
}

/// The first cache, and the second.
const NEAREST: i32 = 3;
const NEAR: i32 = 2;

#[inline(always)]
fn ask<const CACHE: i32>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is in every x86-64, and asking for an address does not read it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<CACHE>(address.cast());
    }
    // Elsewhere memory comes when it is read: asking is not in stable Rust.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
