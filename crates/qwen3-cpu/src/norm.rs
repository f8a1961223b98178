//! Root-mean-square norms, alone or behind the sum of a residual.

use crate::element::Element;
use crate::isa::{self, Kernel, Lanes};
use crate::kernels::Kernels;

/// Elements below which a fork would take longer than the work.
pub(crate) const ALONE: usize = 32 << 10;

impl Kernels {
    /// Normalises every row of `x` `[rows, features]` into `out`; `weight` is `[features]`.
    ///
    /// Follows Transformers `Qwen3RMSNorm`: normalised in f32, rounded to `E`, multiplied by the weight, rounded.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn rms_norm<E: Element>(&self, x: &[E], weight: &[E], eps: f32, out: &mut [E]) {
        assert_eq!(x.len(), out.len(), "as much comes out as goes in");
        let features = rows_of(x.len(), weight.len());
        let rows = self.rows_alone(features);
        let parts = x.chunks(rows * features).zip(out.chunks_mut(rows * features));
        self.threads.for_each(parts.collect(), |(x, out)| {
            isa::run(self.set, Norms { x, weight, eps, out });
        });
    }

    /// Adds `x` to `residual`, both `[rows, features]`, and normalises the sum into `out` as
    /// [`rms_norm`](Self::rms_norm) does. The sum is rounded to `E` first, as the residual stream is.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn add_rms_norm<E: Element>(
        &self,
        residual: &mut [E],
        x: &[E],
        weight: &[E],
        eps: f32,
        out: &mut [E],
    ) {
        assert!(x.len() == out.len() && x.len() == residual.len(), "as much comes out as goes in");
        let features = rows_of(x.len(), weight.len());
        let length = self.rows_alone(features) * features;
        let parts = residual.chunks_mut(length).zip(x.chunks(length)).zip(out.chunks_mut(length));
        self.threads.for_each(parts.collect(), |((residual, x), out)| {
            isa::run(self.set, Add { sum: residual, x });
            isa::run(self.set, Norms { x: residual, weight, eps, out });
        });
    }

    /// Rows of `features` that a thread takes at a time.
    pub(crate) fn rows_alone(&self, features: usize) -> usize {
        (ALONE / features.max(1)).max(1)
    }
}

/// The features of a row, no less than one.
fn rows_of(length: usize, features: usize) -> usize {
    let features = features.max(1);
    assert!(length.is_multiple_of(features), "{length} elements are no rows of {features}");
    features
}

struct Add<'a, E> {
    sum: &'a mut [E],
    x: &'a [E],
}

impl<E: Element> Kernel for Add<'_, E> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self { sum, x } = self;
        let mut at = 0;
        while at + S::LANES <= x.len() {
            lanes.store(sum, at, lanes.add(lanes.load(sum, at), lanes.load(x, at)));
            at += S::LANES;
        }
        for at in at..x.len() {
            sum[at] = E::narrow(sum[at].widen() + x[at].widen());
        }
    }
}

struct Norms<'a, E> {
    x: &'a [E],
    weight: &'a [E],
    eps: f32,
    out: &'a mut [E],
}

impl<E: Element> Kernel for Norms<'_, E> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let features = self.weight.len().max(1);
        for (x, out) in self.x.chunks_exact(features).zip(self.out.chunks_exact_mut(features)) {
            norm_row(lanes, x, self.weight, self.eps, out);
        }
    }
}

/// [`Kernels::rms_norm`] of one row.
#[inline(always)]
pub(crate) fn norm_row<S: Lanes, E: Element>(lanes: S, x: &[E], weight: &[E], eps: f32, out: &mut [E]) {
    let mut squares = [lanes.splat(0.0); 2];
    let mut at = 0;
    while at + 2 * S::LANES <= x.len() {
        let (a, b) = (lanes.load(x, at), lanes.load(x, at + S::LANES));
        squares = [lanes.mul_add(a, a, squares[0]), lanes.mul_add(b, b, squares[1])];
        at += 2 * S::LANES;
    }
    let mut sum = lanes.sum(lanes.add(squares[0], squares[1]));
    for at in at..x.len() {
        sum += x[at].widen() * x[at].widen();
    }
    let factor = 1.0 / (sum / x.len() as f32 + eps).sqrt();
    let factors = lanes.splat(factor);
    let mut at = 0;
    while at + S::LANES <= x.len() {
        // Rounded to `E` in between, by way of memory.
        lanes.store(out, at, lanes.mul(lanes.load(x, at), factors));
        lanes.store(out, at, lanes.mul(lanes.load(out, at), lanes.load(weight, at)));
        at += S::LANES;
    }
    for at in at..x.len() {
        out[at] = E::narrow(E::narrow(x[at].widen() * factor).widen() * weight[at].widen());
    }
}
