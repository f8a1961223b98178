//! The gate of a feed-forward block.

use crate::element::Element;
use crate::isa::{self, Kernel, Lanes, silu};
use crate::kernels::Kernels;

impl Kernels {
    /// `silu(gate) * up`, where every row of `gate_up` `[rows, 2 * features]` is a gate and behind it what it gates,
    /// as [`matmul_joined`](Self::matmul_joined) leaves them; `out` is `[rows, features]`.
    ///
    /// Follows Transformers `Qwen3MLP`: the gate is computed in f32 and rounded to `E`, then multiplied and rounded.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn swiglu<E: Element>(&self, gate_up: &[E], features: usize, out: &mut [E]) {
        assert_eq!(gate_up.len(), 2 * out.len(), "a gate for everything");
        let features = features.max(1);
        assert!(out.len().is_multiple_of(features), "{} elements are no rows of {features}", out.len());
        let rows = self.rows_alone(features);
        let parts = gate_up.chunks(2 * rows * features).zip(out.chunks_mut(rows * features));
        self.threads.for_each(parts.collect(), |(gate_up, out)| {
            for (gate_up, out) in gate_up.chunks(2 * features).zip(out.chunks_mut(features)) {
                let (gate, up) = gate_up.split_at(features);
                isa::run(self.set, Gate { gate, up, out });
            }
        });
    }

    /// [`swiglu`](Self::swiglu) of a `gate` and an `up` that lie apart; all three have one length.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn swiglu_apart<E: Element>(&self, gate: &[E], up: &[E], out: &mut [E]) {
        assert!(gate.len() == out.len() && up.len() == out.len(), "a gate for everything");
        let length = crate::norm::ALONE;
        let parts = gate.chunks(length).zip(up.chunks(length)).zip(out.chunks_mut(length));
        self.threads.for_each(parts.collect(), |((gate, up), out)| {
            isa::run(self.set, Gate { gate, up, out });
        });
    }
}

struct Gate<'a, E> {
    gate: &'a [E],
    up: &'a [E],
    out: &'a mut [E],
}

impl<E: Element> Kernel for Gate<'_, E> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Lanes>(self, lanes: S) {
        let Self { gate, up, out } = self;
        let mut at = 0;
        while at + S::LANES <= out.len() {
            // Rounded to `E` in between, by way of memory.
            lanes.store(out, at, silu(lanes, lanes.load(gate, at)));
            lanes.store(out, at, lanes.mul(lanes.load(out, at), lanes.load(up, at)));
            at += S::LANES;
        }
        for at in at..out.len() {
            let gate = gate[at].widen();
            let gate = E::narrow(gate / (1.0 + (-gate).exp()));
            out[at] = E::narrow(gate.widen() * up[at].widen());
        }
    }
}
