//! Many tokens: blocks of weights are widened into a tile that stays in the cache, and multiplied by panels of tokens.

use super::{Share, split_rows};
use crate::block::Block;
use crate::element::Element;
use crate::isa::{self, Ahead, Kernel, Lanes, MAX_VECTORS, calls, product, transpose};
use crate::kernels::Kernels;

/// Rows of a tile of weights: a whole number of every set's register blocks.
const ROWS: [usize; 2] = [12, 48];
/// Bytes of a tile, which is as deep as the weights are, so that they are read in one direction.
const TILE: usize = 192 << 10;
/// Depth of a panel that stays in the first cache.
const DEPTH: usize = 256;
/// Tokens whose results are written at a time.
const LINES: usize = 32;
/// Tokens whose sums lie in the cache at a time.
const TOKENS: usize = 256;

pub(super) fn multiply<W: Element, X: Element>(
    kernels: &Kernels,
    shares: Vec<Share<W, X>>,
    x: &[X],
    tokens: usize,
    depth: usize,
) {
    let width = isa::run(kernels.set, Width);
    let padded = tokens.next_multiple_of(width / MAX_VECTORS);
    kernels.floats.lend(padded * depth, |panels| {
        let parts = panels.chunks_mut((width * depth).max(1)).enumerate().collect();
        kernels.threads.for_each(parts, |(index, panel)| {
            let first = index * width;
            let x = &x[first * depth..tokens.min(first + width) * depth];
            isa::run(kernels.set, Pack { x, depth, panel });
        });
        let panels = &*panels;
        let [least, most] = ROWS;
        let rows = (TILE / (4 * depth).max(1) / least * least).clamp(least, most);
        let jobs = split_rows(shares, rows).flat_map(split_tokens).collect();
        kernels.threads.for_each(jobs, |share| {
            // What this thread takes next lies behind what the others have now.
            let next = share.rows.start + kernels.threads.count() * share.rows.len();
            let next = next.min(share.weight.rows)..(next + share.rows.len()).min(share.weight.rows);
            let next = share.weight.rows(next);
            isa::run(kernels.set, Many { share, next, panels, tokens: padded, depth });
        });
    });
}

/// Shares of at most [`TOKENS`] tokens each.
pub(super) fn split_tokens<W: Element, X: Element>(share: Share<W, X>) -> Vec<Share<W, X>> {
    let Share { weight, rows, mut y, mut token } = share;
    let mut shares = Vec::new();
    while y.rows() > 0 {
        let count = TOKENS.min(y.rows());
        let (part, others) = y.split_rows(count);
        shares.push(Share { weight, rows: rows.clone(), y: part, token });
        y = others;
        token += count;
    }
    shares
}

/// Transposes the rows of `x` into a panel `[depth, width]`, zeros behind the last.
struct Pack<'a, X> {
    x: &'a [X],
    depth: usize,
    panel: &'a mut [f32],
}

impl<X: Element> Kernel for Pack<'_, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let (rows, width) = (self.x.len() / self.depth, self.panel.len() / self.depth);
        if rows < width {
            self.panel.fill(0.0);
        }
        transpose(lanes, [rows, self.depth], (self.x, self.depth), (self.panel, width));
    }
}

/// Tokens of a panel.
struct Width;

impl Kernel for Width {
    type Output = usize;

    #[inline(always)]
    fn compute<S: Lanes>(self, _: S) -> usize {
        MAX_VECTORS * S::LANES
    }
}

struct Many<'a, W, X> {
    share: Share<'a, W, X>,
    /// Weights to ask for while these are multiplied.
    next: &'a [W],
    /// Panels `[depth, width]`; the last may be a vector wide.
    panels: &'a [f32],
    /// In all panels, those that pad the last one included.
    tokens: usize,
    depth: usize,
}

impl<W: Element, X: Element> Kernel for Many<'_, W, X> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self { mut share, next, panels, tokens, depth } = self;
        let width = MAX_VECTORS * S::LANES;
        let (first, rows) = (share.rows.start, share.rows.len());
        let end = (share.token + share.y.rows()).next_multiple_of(S::LANES).min(tokens);
        let count = end - share.token; // a whole number of vectors
        // Not powers of two, whose rows would share few lines of the cache.
        let (deep_stride, stride) = (depth + 16, count + 16);
        let mut tile = vec![0.0; rows * deep_stride];
        for row in 0..rows {
            let weights = share.weight.rows(first + row..first + row + 1);
            isa::convert(lanes, weights, &mut tile[row * deep_stride..][..depth]);
        }
        let mut sums = vec![0.0; rows * stride];
        let mut ahead = Ahead::new(next, calls(lanes, [rows, depth, count]));
        let mut meanwhile = || ahead.ask();
        for k in (0..depth).step_by(DEPTH) {
            let deep = DEPTH.min(depth - k);
            for token in (share.token..end).step_by(width) {
                let columns = width.min(tokens - token);
                let panel = &panels[token * depth + k * columns..][..deep * columns];
                let sums = &mut sums[token - share.token..];
                let tile = &tile[k..];
                product(
                    lanes,
                    [rows, deep, columns],
                    (tile, deep_stride),
                    (panel, columns),
                    (sums, stride),
                    &mut meanwhile,
                );
            }
        }
        write(lanes, (&sums, stride), rows, &mut share.y);
    }
}

/// Writes the sums of a tile, `[rows, tokens]`, to `y` `[tokens, rows]`.
#[inline(always)]
pub(super) fn write<S: Lanes, X: Element>(
    lanes: S,
    (sums, stride): (&[f32], usize),
    rows: usize,
    y: &mut Block<X>,
) {
    let mut lines = [X::default(); LINES * ROWS[1]];
    for token in (0..y.rows()).step_by(LINES) {
        let count = LINES.min(y.rows() - token);
        transpose(lanes, [rows, count], (&sums[token..], stride), (&mut lines, rows));
        for (line, from) in lines.chunks_exact(rows).take(count).enumerate() {
            y.row(token + line).copy_from_slice(from);
        }
    }
}
