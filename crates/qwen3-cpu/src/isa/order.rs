//! The order in which [`Lanes::load_two`] gives elements.

use super::{Lanes, MOST_LANES};
use crate::element::Element;

/// Arranges numbers as [`Lanes::load_two`] gives as many elements of `E`; those behind the last whole two vectors stay
/// where they are.
#[inline(always)]
pub(crate) fn arrange<S: Lanes, E: Element>(lanes: S, numbers: &mut [f32]) {
    reorder::<S, E>(lanes, numbers, |two, before, arranged, place| two[arranged] = before[place]);
}

/// Undoes [`arrange`].
#[inline(always)]
pub(crate) fn restore<S: Lanes, E: Element>(lanes: S, numbers: &mut [f32]) {
    reorder::<S, E>(lanes, numbers, |two, before, arranged, place| two[place] = before[arranged]);
}

/// Calls `write` with each two vectors, what was in them before, and where a number is arranged and its own place.
#[inline(always)]
fn reorder<S: Lanes, E: Element>(
    lanes: S,
    numbers: &mut [f32],
    write: impl Fn(&mut [f32], &[f32], usize, usize),
) {
    if !lanes.parts::<E>() {
        return;
    }
    for two in numbers.chunks_exact_mut(2 * S::LANES) {
        let mut before = [0.0; 2 * MOST_LANES];
        before[..two.len()].copy_from_slice(two);
        for at in 0..S::LANES {
            write(two, &before, at, 2 * at);
            write(two, &before, S::LANES + at, 2 * at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::InstructionSet;
    use crate::isa::{Kernel, run};

    struct Loaded<'a, E>(&'a [E]);

    impl<E: Element> Kernel for Loaded<'_, E> {
        /// Numbers as they were loaded, and as they are arranged.
        type Output = [Vec<f32>; 2];

        #[inline(always)]
        fn compute<S: Lanes>(self, lanes: S) -> Self::Output {
            let length = 2 * S::LANES + 3;
            let mut loaded: Vec<_> = self.0[..length].iter().map(|element| element.widen()).collect();
            let mut arranged = loaded.clone();
            arrange::<S, E>(lanes, &mut arranged);
            let mut restored = arranged.clone();
            restore::<S, E>(lanes, &mut restored);
            assert_eq!(restored, loaded);
            // SAFETY: as many there are.
            let [first, second] = unsafe { lanes.load_two(self.0.as_ptr()) };
            lanes.store(&mut loaded, 0, first);
            lanes.store(&mut loaded, S::LANES, second);
            [loaded, arranged]
        }
    }

    fn check<E: Element>() {
        let elements: Vec<_> = (0..2 * MOST_LANES + 3).map(|i| E::narrow(i as f32 + 0.5)).collect();
        for set in InstructionSet::available() {
            let [loaded, arranged] = run(set, Loaded(&elements));
            assert_eq!(loaded, arranged, "{set}");
        }
    }

    #[test]
    fn numbers_are_arranged_as_elements_are_loaded() {
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
