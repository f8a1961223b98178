//! Products of activations with weights as a checkpoint has them.

mod few;
mod many;
mod pairs;

use std::ops::Range;

use crate::block::Block;
use crate::element::Element;
use crate::kernels::Kernels;

/// A weight `[out, in]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, W> {
    data: &'a [W],
    rows: usize,
    columns: usize,
}

impl<'a, W> Matrix<'a, W> {
    /// `data` as `[rows, columns]`, which is `[out, in]`.
    ///
    /// # Panics
    /// When `data` has another length.
    pub fn new(data: &'a [W], [rows, columns]: [usize; 2]) -> Self {
        let found = data.len();
        assert!(rows.checked_mul(columns) == Some(found), "{found} elements are not [{rows}, {columns}]");
        Self { data, rows, columns }
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The elements of some rows.
    fn rows(&self, rows: Range<usize>) -> &'a [W] {
        &self.data[rows.start * self.columns..rows.end * self.columns]
    }
}

/// Some rows of a weight and where their products go.
struct Share<'a, W, X> {
    weight: Matrix<'a, W>,
    rows: Range<usize>,
    /// `[tokens, rows]`, of all tokens or of some.
    y: Block<'a, X>,
    /// The first of the tokens of `y`.
    token: usize,
}

impl Kernels {
    /// `x @ weight^T` for every one of `weights`: `x` is `[tokens, in]` and each of `outputs` `[tokens, out]`, all
    /// row-major. Accumulated in f32 and rounded once to the dtype of `x`.
    ///
    /// Weights that share an `x` (q, k and v; gate and up; the blocks of a vocabulary) belong in one call: the
    /// threads fork once. Weights are read where they lie; up to some tens of tokens, each once.
    ///
    /// # Panics
    /// When a length does not fit the others.
    pub fn matmul<W: Element, X: Element>(
        &self,
        weights: &[Matrix<W>],
        x: &[X],
        tokens: usize,
        outputs: &mut [&mut [X]],
    ) {
        assert_eq!(weights.len(), outputs.len(), "one output for each weight");
        let shares = weights.iter().zip(outputs).map(|(weight, y)| {
            assert_eq!(y.len(), tokens * weight.rows, "an output is [{tokens}, {}]", weight.rows);
            Share { weight: *weight, rows: 0..weight.rows, y: Block::new(y, tokens), token: 0 }
        });
        self.multiply(shares.collect(), x, tokens);
    }

    /// [`matmul`](Self::matmul) with the outputs side by side: `y` is `[tokens, out of all weights]`.
    ///
    /// # Panics
    /// When a length does not fit the others.
    pub fn matmul_joined<W: Element, X: Element>(
        &self,
        weights: &[Matrix<W>],
        x: &[X],
        tokens: usize,
        y: &mut [X],
    ) {
        let out: usize = weights.iter().map(|weight| weight.rows).sum();
        assert_eq!(y.len(), tokens * out, "the output is [{tokens}, {out}]");
        let mut rest = Block::new(y, tokens);
        let mut shares = Vec::with_capacity(weights.len());
        for weight in weights {
            let (y, others) = rest.split_columns(weight.rows);
            rest = others;
            shares.push(Share { weight: *weight, rows: 0..weight.rows, y, token: 0 });
        }
        self.multiply(shares, x, tokens);
    }

    fn multiply<W: Element, X: Element>(&self, shares: Vec<Share<W, X>>, x: &[X], tokens: usize) {
        let Some(depth) = shares.first().map(|share| share.weight.columns) else { return };
        if tokens == 0 {
            return;
        }
        for share in &shares {
            let found = share.weight.columns;
            assert_eq!(found, depth, "weights of one product have the same columns");
        }
        assert_eq!(x.len(), tokens * depth, "x is [{tokens}, {depth}]");
        if tokens <= few::most::<W, X>(self) {
            few::multiply(self, shares, x, tokens, depth);
        } else if pairs::apply::<W, X>(self) {
            pairs::multiply(self, shares, x, tokens, depth);
        } else {
            many::multiply(self, shares, x, tokens, depth);
        }
    }
}

/// Shares of at most `rows` rows each.
fn split_rows<'a, W: Element, X: Element>(
    shares: Vec<Share<'a, W, X>>,
    rows: usize,
) -> impl Iterator<Item = Share<'a, W, X>> {
    shares.into_iter().flat_map(move |share| {
        let Share { weight, rows: all, y, token } = share;
        let mut rest = Some(y);
        all.clone().step_by(rows).map(move |first| {
            let last = all.end.min(first + rows);
            let (y, others) = rest.take().expect("columns are left").split_columns(last - first);
            rest = Some(others);
            Share { weight, rows: first..last, y, token }
        })
    })
}
