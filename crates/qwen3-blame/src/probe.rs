//! A decoder layer on the host, in float64 or as a dtype rounds, with a switch for every known mistake.
//!
//! It is not the model under test and never judges it: expected values are the reference's. It says
//! what *would* have come out of an implementation with a given mistake. It follows Transformers
//! `Qwen3DecoderLayer` and `Qwen3MoeDecoderLayer`; a test compares every tap of the right variant with the oracle's.

use std::collections::BTreeMap;

use qwen3_config::{Qwen3Config, Rows, Tap};

use crate::attend::attend;
use crate::cache::CacheMistake;
use crate::feed_forward::feed_forward;
use crate::habits::Part;
use crate::heads::{heads_first, rotate, tokens_first};
use crate::norms::{LayerNorm, norm_offset};
use crate::ops::{add, rms_norm};
use crate::variant::{HeadNorm, Layout, Variant};
use crate::weights::{LayerWeights, Projection};
use crate::wiring::{MlpInput, NormPlace, Wiring};

/// What passes through a layer, row-major in float64; shapes as [`Tap`] says.
#[derive(Clone, Debug, Default)]
pub struct LayerTaps {
    taps: Vec<(Tap, Vec<f64>)>,
}

impl LayerTaps {
    /// A tensor of the layer.
    ///
    /// # Panics
    /// For a tap that is not in a layer of this kind.
    pub fn get(&self, tap: Tap) -> &[f64] {
        let found = self.taps.iter().find(|(kept, _)| *kept == tap);
        found.map(|(_, values)| &values[..]).expect("a tap of a layer")
    }

    pub(crate) fn keep(&mut self, tap: Tap, values: &[f64]) {
        self.taps.push((tap, values.to_vec()));
    }
}

/// Runs one layer on `x` `[batch * seq, hidden_size]`.
///
/// `right` is the run of the right variant on the same input and weights, whose projections are used
/// again where the variant does not change them.
pub fn run_layer(
    weights: &LayerWeights,
    config: &Qwen3Config,
    variant: &Variant,
    rows: &Rows,
    x: &[f64],
    right: Option<(&Variant, &LayerTaps)>,
) -> LayerTaps {
    LayerRun { weights, config, rows, x, right, until: Tap::LayerOutput, seen: None }.run(variant)
}

/// Tensors of a layer that were observed, as [`Tap`] shapes them; NaN is padding.
pub type Seen = BTreeMap<Tap, Vec<f64>>;

/// One layer that is run.
#[derive(Clone, Copy)]
pub struct LayerRun<'a> {
    /// Its weights.
    pub weights: &'a LayerWeights,
    /// The model's sizes.
    pub config: &'a Qwen3Config,
    /// The tokens.
    pub rows: &'a Rows,
    /// What goes in, `[batch * seq, hidden_size]`.
    pub x: &'a [f64],
    /// As in [`run_layer`].
    pub right: Option<(&'a Variant, &'a LayerTaps)>,
    /// The last tensor in the layer that is needed: what comes behind it may be missing.
    pub until: Tap,
    /// Tensors that the run goes on from, in place of those that it computed.
    pub seen: Option<&'a Seen>,
}

impl LayerRun<'_> {
    /// What passes through the layer.
    pub fn run(&self, variant: &Variant) -> LayerTaps {
        let mut taps = LayerTaps::default();
        let (weights, arithmetic, wiring) = (self.weights, variant.arithmetic, variant.wiring);
        let (first, second) =
            (LayerNorm::of_attention(weights, variant), LayerNorm::of_mlp(weights, variant));
        match self.right.filter(|(other, _)| variant.same_projections(other)) {
            Some((_, right)) => taps.taps.extend(right.taps[..4].iter().cloned()),
            None => {
                let read = first.at(NormPlace::Before, self.x.to_vec(), &mut taps);
                project(weights, variant, &self.seen(Tap::InputLayernorm, read), &mut taps);
            }
        }
        // Other layers have their norms elsewhere.
        let until = if wiring == Wiring::OWN { self.until } else { Tap::LayerOutput };
        let run = Self { until, ..*self };
        let Some(attention) = run.attention(variant, &mut taps) else {
            return taps;
        };
        let attention = first.at(NormPlace::Behind, attention, &mut taps);
        let attention = second.at(NormPlace::OnAttention, attention, &mut taps);
        let residual = if wiring.attention_adds_normed { taps.get(Tap::InputLayernorm) } else { self.x };
        let hidden =
            if variant.attention_residual { add(residual, &attention, arithmetic) } else { attention };
        let hidden = first.at(NormPlace::BehindResidual, hidden, &mut taps);

        let read = match wiring.mlp_reads {
            MlpInput::Sum => hidden.clone(),
            MlpInput::LayerInput => self.x.to_vec(),
            MlpInput::AttentionInput => taps.get(Tap::InputLayernorm).to_vec(),
        };
        let read = second.at(NormPlace::Before, read, &mut taps);
        if until <= Tap::PostAttentionLayernorm {
            return taps;
        }
        let read = self.seen(Tap::PostAttentionLayernorm, read);
        let residual = if wiring.mlp_adds_normed { &read } else { &hidden };
        let added = variant.mlp_residual.then_some(&residual[..]);
        let mlp = feed_forward(&weights.mlp, variant, &read, added, &mut taps);
        taps.keep(Tap::Mlp, &mlp);
        let mlp = second.at(NormPlace::Behind, self.seen(Tap::Mlp, mlp), &mut taps);
        let output = if variant.mlp_residual { add(residual, &mlp, arithmetic) } else { mlp };
        let output = second.at(NormPlace::BehindResidual, output, &mut taps);
        taps.keep(Tap::LayerOutput, &output);
        taps
    }

    /// What the run goes on from: what was observed of a tensor, if it was, or what was `computed`.
    fn seen(&self, tap: Tap, mut computed: Vec<f64>) -> Vec<f64> {
        if let Some(seen) = self.seen.and_then(|seen| seen.get(&tap)) {
            let there = computed.iter_mut().zip(seen).filter(|(_, seen)| !seen.is_nan());
            there.for_each(|(computed, seen)| *computed = *seen);
        }
        computed
    }

    /// What comes out of attention, from the projections that were kept; nothing where `until` comes before.
    fn attention(&self, variant: &Variant, taps: &mut LayerTaps) -> Option<Vec<f64>> {
        if self.until <= Tap::VProj {
            return None;
        }
        let (weights, config, rows) = (self.weights, self.config, self.rows);
        let [q, k, v] =
            [Tap::QProj, Tap::KProj, Tap::VProj].map(|tap| self.seen(tap, taps.get(tap).to_vec()));
        let (q, k) = self.norm_and_rotate(variant, q, k, taps);
        if self.until <= Tap::KRope {
            return None;
        }
        let turned = match variant.cached.map(|cached| cached.mistake) {
            Some(CacheMistake::Unrotated { .. }) => taps.get(Tap::KNorm).to_vec(),
            Some(CacheMistake::Twice { .. }) => rotate(config, variant, rows, &k, 0),
            _ => Vec::new(),
        };
        let reach = variant.look_back.reach(weights.reach);
        let context = attend(config, variant, reach, rows, [&q, &k, &v], &turned);
        taps.keep(Tap::Context, &context);
        if self.until == Tap::Context {
            return None;
        }
        let attention = weights.o_proj.adapted(&self.seen(Tap::Context, context), Layout::OutIn, variant);
        let attention = weights.o_proj.without_bias(attention, variant, Part::Output);
        taps.keep(Tap::OProj, &attention);
        Some(self.seen(Tap::OProj, attention))
    }

    /// Queries and keys as attention takes them, still `[batch * seq, heads * head_dim]`.
    fn norm_and_rotate(
        &self,
        variant: &Variant,
        q: Vec<f64>,
        k: Vec<f64>,
        taps: &mut LayerTaps,
    ) -> (Vec<f64>, Vec<f64>) {
        let (weights, config, rows) = (self.weights, self.config, self.rows);
        let offset = norm_offset(variant, true);
        let norm = |x: Vec<f64>, weight: &[f32], heads: usize, there: bool| match variant.head_norm {
            _ if !there => x,
            HeadNorm::OverAllHeads => {
                rms_norm(&x, &weight.repeat(heads), variant.head_eps, offset, variant.arithmetic)
            }
            _ => {
                let x = variant.before_norm(&x, weight.len(), true);
                rms_norm(&x, weight, variant.head_eps, offset, variant.arithmetic)
            }
        };
        let turn = |x: &[f64], offset| rotate(config, variant, rows, x, offset);
        let [q_heads, k_heads] = [config.num_attention_heads, config.num_key_value_heads];
        let unseen = variant.head_norm == HeadNorm::AfterRopeUnseen;
        let after = unseen || variant.head_norm == HeadNorm::AfterRope;
        let (mut q, mut k) = (q, k);
        if unseen {
            taps.keep(Tap::QNorm, &q);
            taps.keep(Tap::KNorm, &k);
        }
        if after {
            (q, k) = (turn(&q, variant.query_offset), turn(&k, variant.key_offset));
        }
        q = norm(q, &weights.q_norm, q_heads, variant.q_norm);
        k = norm(k, &weights.k_norm, k_heads, variant.k_norm);
        if !unseen {
            taps.keep(Tap::QNorm, &q);
            taps.keep(Tap::KNorm, &k);
        }
        (q, k) = (self.seen(Tap::QNorm, q), self.seen(Tap::KNorm, k));
        if !after {
            (q, k) = (turn(&q, variant.query_offset), turn(&k, variant.key_offset));
        }
        let mut turned = |tap, x: Vec<f64>| {
            let apart = heads_first(config, rows, &x);
            taps.keep(tap, &apart);
            match self.seen {
                Some(seen) if seen.contains_key(&tap) => tokens_first(config, rows, &self.seen(tap, apart)),
                _ => x,
            }
        };
        (turned(Tap::QRope, q), turned(Tap::KRope, k))
    }
}

/// Keeps the three projections of what attention reads.
fn project(w: &LayerWeights, variant: &Variant, read: &[f64], taps: &mut LayerTaps) {
    let (mut k, mut v) = (&w.k_proj, &w.v_proj);
    if variant.kv_swapped {
        std::mem::swap(&mut k, &mut v);
    }
    let given = |projection: &Projection, layout: Layout, part: Part| {
        projection.without_bias(projection.adapted(read, layout, variant), variant, part)
    };
    taps.keep(Tap::QProj, &given(&w.q_proj, Layout::OutIn, Part::Queries));
    taps.keep(Tap::KProj, &given(k, variant.k_layout, Part::Keys));
    taps.keep(Tap::VProj, &given(v, variant.v_layout, Part::Values));
}
