//! From one dtype to another.

use super::{Lanes, MOST_LANES};
use crate::element::{Element, Kind};

/// Widens `from` to as many f32 numbers, or rounds it to as many elements.
#[inline(always)]
pub(crate) fn convert<S: Lanes, F: Element, T: Element>(lanes: S, from: &[F], to: &mut [T]) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    while at + S::LANES <= from.len() {
        lanes.store(to, at, lanes.load(from, at));
        at += S::LANES;
    }
    while at < from.len() {
        to[at] = T::narrow(from[at].widen());
        at += 1;
    }
}

/// The nearest numbers that `E` has.
#[inline(always)]
pub(crate) fn round_to<S: Lanes, E: Element>(lanes: S, value: S::V) -> S::V {
    if E::KIND == Kind::F32 {
        return value;
    }
    let mut rounded = [E::default(); MOST_LANES];
    lanes.store(&mut rounded, 0, value);
    lanes.load(&rounded, 0)
}
