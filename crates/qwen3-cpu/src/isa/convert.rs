//! From one dtype to another.

use super::{Lanes, MOST_LANES};
use crate::element::{Element, Kind};

/// Widens `from` to as many f32 numbers.
#[inline(always)]
pub(crate) fn widen<S: Lanes, E: Element>(lanes: S, from: &[E], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    let whole = from.len() / S::LANES * S::LANES;
    for (from, to) in from.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
        lanes.store(to, lanes.load(from));
    }
    for (from, to) in from[whole..].iter().zip(&mut to[whole..]) {
        *to = from.widen();
    }
}

/// The nearest numbers that `E` has.
#[inline(always)]
pub(crate) fn round_to<S: Lanes, E: Element>(lanes: S, value: S::V) -> S::V {
    if E::KIND == Kind::F32 {
        return value;
    }
    let mut rounded = [E::default(); MOST_LANES];
    lanes.store(&mut rounded, value);
    lanes.load(&rounded)
}
