//! Many tokens with weights and activations in bf16, where the machine multiplies pairs of them: as `many`, but tiles
//! and panels stay bf16.

use half::bf16;

use super::many::{split_tokens, write};
use super::{Share, split_rows};
use crate::element::{Element, Kind};
use crate::isa::{self, Kernel, Lanes, PAIR_COLUMNS, PAIR_DEPTH, PAIR_ROWS, product_of_pairs};
use crate::kernels::Kernels;

/// Pairs of a tile's row.
const DEPTH: usize = 256;
/// Pairs from one row of a tile to the next: not a power of two, whose rows would share few lines of the cache.
const STRIDE: usize = DEPTH + 16;

/// Whether the set of `kernels` multiplies pairs, and these are such.
pub(super) fn apply<W: Element, X: Element>(kernels: &Kernels) -> bool {
    W::KIND == Kind::Bf16 && X::KIND == Kind::Bf16 && isa::run(kernels.set, HasPairs)
}

struct HasPairs;

impl Kernel for HasPairs {
    type Output = bool;

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) -> bool {
        lanes.has_pairs()
    }
}

pub(super) fn multiply<W: Element, X: Element>(
    kernels: &Kernels,
    shares: Vec<Share<W, X>>,
    x: &[X],
    tokens: usize,
    depth: usize,
) {
    let x: &[bf16] = bytemuck::cast_slice(x);
    let pairs = depth.div_ceil(2).next_multiple_of(PAIR_DEPTH);
    let padded = tokens.next_multiple_of(PAIR_COLUMNS);
    kernels.units.lend(padded * pairs, |panels| {
        let parts = panels.chunks_mut((PAIR_COLUMNS * pairs).max(1)).enumerate().collect();
        kernels.threads.for_each(parts, |(index, panel)| {
            let first = index * PAIR_COLUMNS;
            pack(&x[first * depth..tokens.min(first + PAIR_COLUMNS) * depth], depth, panel);
        });
        let panels = &*panels;
        let jobs = split_rows(shares, PAIR_ROWS).flat_map(split_tokens).collect();
        kernels.threads.for_each(jobs, |share| {
            isa::run(kernels.set, Pairs { share, panels, pairs });
        });
    });
}

/// Two neighbours as one.
fn pair(two: &[bf16]) -> u32 {
    let high = two.get(1).map_or(0, |high| high.to_bits());
    u32::from(two[0].to_bits()) | u32::from(high) << 16
}

/// Transposes the rows of `x` into a panel `[pairs, PAIR_COLUMNS]`, zeros behind the last row and the last pair.
fn pack(x: &[bf16], depth: usize, panel: &mut [u32]) {
    panel.fill(0);
    for (row, x) in x.chunks_exact(depth).enumerate() {
        for (to, two) in panel.chunks_exact_mut(PAIR_COLUMNS).zip(x.chunks(2)) {
            to[row] = pair(two);
        }
    }
}

struct Pairs<'a, W, X> {
    share: Share<'a, W, X>,
    /// Panels `[pairs, PAIR_COLUMNS]`.
    panels: &'a [u32],
    pairs: usize,
}

impl<W: Element, X: Element> Kernel for Pairs<'_, W, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self { mut share, panels, pairs } = self;
        let (first, rows) = (share.rows.start, share.rows.len());
        let end = (share.token + share.y.rows()).next_multiple_of(PAIR_COLUMNS);
        let mut tile = vec![0; PAIR_ROWS * STRIDE];
        let stride = end - share.token + 16; // as that of the tile
        let mut sums = vec![0.0; PAIR_ROWS * stride];
        for k in (0..pairs).step_by(DEPTH) {
            let deep = DEPTH.min(pairs - k);
            for row in 0..rows {
                let weights: &[bf16] = bytemuck::cast_slice(share.weight.rows(first + row..first + row + 1));
                let weights = &weights[(2 * k).min(weights.len())..weights.len().min(2 * (k + deep))];
                let line = &mut tile[row * STRIDE..][..deep];
                let (whole, rest) = line.split_at_mut(weights.len() / 2);
                for (to, two) in whole.iter_mut().zip(weights.chunks_exact(2)) {
                    *to = pair(two);
                }
                rest.fill(0);
                if weights.len() % 2 == 1 {
                    rest[0] = pair(&weights[weights.len() - 1..]);
                }
            }
            for token in (share.token..end).step_by(PAIR_COLUMNS) {
                let panel = &panels[token * pairs + k * PAIR_COLUMNS..][..deep * PAIR_COLUMNS];
                let sums = &mut sums[token - share.token..];
                product_of_pairs(lanes, deep, (&tile, STRIDE), panel, (sums, stride));
            }
        }
        write(lanes, (&sums, stride), rows, &mut share.y);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Matrix;
    use super::*;

    type Multiply = fn(&Kernels, Vec<Share<bf16, bf16>>, &[bf16], usize, usize);
    use crate::block::Block;
    use crate::{InstructionSet, Threads};

    /// Where a set has no products of pairs, with their emulation.
    #[test]
    fn products_are_those_of_many_tokens() {
        let numbers = |count: usize, seed: f32| -> Vec<bf16> {
            (0..count).map(|i| bf16::from_f32(((i as f32 + seed) * 12.9898).sin())).collect()
        };
        let threads = Arc::new(Threads::new(2));
        for (tokens, depth, out) in [(1, 1, 1), (33, 100, 50), (300, 513, 49), (40, 1100, 96), (5, 31, 3)] {
            let (w, x) = (numbers(out * depth, 0.5), numbers(tokens * depth, 0.1));
            for set in InstructionSet::available() {
                let kernels = Kernels::new(set, Arc::clone(&threads));
                let product = |multiply: Multiply| {
                    let mut y = vec![bf16::NAN; tokens * out];
                    let weight = Matrix::new(&w, [out, depth]);
                    let share = Share { weight, rows: 0..out, y: Block::new(&mut y, tokens), token: 0 };
                    multiply(&kernels, vec![share], &x, tokens, depth);
                    y
                };
                let (found, expected) = (product(multiply), product(super::super::many::multiply));
                for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let off = (found.to_f32() - expected.to_f32()).abs();
                    assert!(
                        off <= 0.008 * expected.to_f32().abs() + 1e-4,
                        "{set}: {index}: {found}, {expected}"
                    );
                }
            }
        }
    }
}
