//! Dot products of rows of bf16 with one vector, where numbers at even and at odd places are widened faster apart: a
//! shift and a mask for two vectors, and more of memory on its way at a time.

use half::bf16;

use super::{Lanes, MOST_LANES, extent};

/// Arranges `x` for [`dot_split`]: of each whole two vectors first what stands at even places, then the others.
#[inline(always)]
pub(crate) fn split<S: Lanes>(_: S, x: &mut [f32]) {
    for two in x.chunks_exact_mut(2 * S::LANES) {
        let mut before = [0.0; 2 * MOST_LANES];
        before[..two.len()].copy_from_slice(two);
        for at in 0..S::LANES {
            two[at] = before[2 * at];
            two[S::LANES + at] = before[2 * at + 1];
        }
    }
}

/// Writes to `result` the dot product of each of `count` rows, which lie one behind the other, with `x` as
/// [`split`] arranged it.
///
/// # Panics
/// When something is too short.
#[inline(always)]
pub(crate) fn dot_split<S: Lanes>(lanes: S, rows: &[bf16], count: usize, x: &[f32], result: &mut [f32]) {
    if count == 0 {
        return;
    }
    let depth = x.len();
    assert!(rows.len() >= extent(count, depth, depth) && result.len() >= count);
    for row in 0..count {
        // SAFETY: `count` rows of `depth` elements, as just seen; `here + 2 * LANES <= depth`.
        unsafe {
            let (w, x) = (rows.as_ptr().add(row * depth), x.as_ptr());
            let mut sums = [lanes.splat(0.0); 8];
            let mut at = 0;
            while at + 8 * S::LANES <= depth {
                for pair in 0..4 {
                    let here = at + 2 * pair * S::LANES;
                    let [even, odd] = lanes.load_split(w.add(here));
                    sums[2 * pair] = lanes.mul_add(even, lanes.load_at(x.add(here)), sums[2 * pair]);
                    let x = lanes.load_at(x.add(here + S::LANES));
                    sums[2 * pair + 1] = lanes.mul_add(odd, x, sums[2 * pair + 1]);
                }
                at += 8 * S::LANES;
            }
            while at + 2 * S::LANES <= depth {
                let [even, odd] = lanes.load_split(w.add(at));
                sums[0] = lanes.mul_add(even, lanes.load_at(x.add(at)), sums[0]);
                sums[1] = lanes.mul_add(odd, lanes.load_at(x.add(at + S::LANES)), sums[1]);
                at += 2 * S::LANES;
            }
            let mut sum = sums[0];
            for index in 1..8 {
                sum = lanes.add(sum, sums[index]);
            }
            let mut sum = lanes.sum(sum);
            while at < depth {
                sum += (*w.add(at)).to_f32() * *x.add(at);
                at += 1;
            }
            result[row] = sum;
        }
    }
}
