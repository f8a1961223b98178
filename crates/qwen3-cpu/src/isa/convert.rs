//! From one dtype to another.

use super::Lanes;
use crate::element::Element;

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
