use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};
use qwen3_config::{Reach, Rows};

use crate::mask::causal_bias;
use crate::rope::Tables;
use crate::{LayerCache, Qwen3Config, RotaryEmbedding};

/// What all passes of a model have in common: its rotary embedding, and how far back its layers look.
#[derive(Clone, Debug)]
pub struct StepPlan {
    rope: RotaryEmbedding,
    /// Each that a layer has, once.
    reaches: Vec<Reach>,
}

impl StepPlan {
    /// That of a model of this `config`.
    pub fn new(config: &Qwen3Config) -> Self {
        let mut reaches = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let reach = config.layer(layer).reach;
            if !reaches.contains(&reach) {
                reaches.push(reach);
            }
        }
        Self { rope: RotaryEmbedding::new(config.head_dim, &config.rope), reaches }
    }

    /// A pass over the tokens of `rows`, which occupy the last of its slots, attending to the first `keys`
    /// slots of a cache; those that are not used yet are hidden.
    ///
    /// A token sees the slots before its own and its own, as far as its layer reaches and they are no
    /// padding. Positions feed RoPE only; what is seen goes by slots.
    ///
    /// # Panics
    /// When the rows are ragged, or there are fewer `keys` than slots.
    pub fn step(&self, rows: &Rows, keys: usize, device: &Device) -> Step {
        let ([batch, seq], slots) = (rows.dims(), rows.visible[0].len());
        let even = rows.positions.iter().all(|row| row.len() == seq)
            && rows.visible.iter().all(|row| row.len() == slots);
        assert!(
            even && keys >= slots && slots >= seq,
            "{batch} rows of {seq} tokens in {slots} slots do not fit {keys} keys"
        );
        let tables = Arc::new(self.rope.of_rows(&rows.positions));
        let (cos, sin) = tables.on(device);
        let padded = rows.visible.iter().any(|row| row.contains(&false));
        let visible = if padded { rows.visible.clone() } else { Vec::new() };
        let biases = self.reaches.iter().map(|reach| (*reach, OnceLock::new())).collect();
        Step { tables, cos, sin, biases, visible, seq, start: slots - seq, keys }
    }

    /// A pass without a cache: the tokens see themselves and what is before them.
    ///
    /// # Panics
    /// As [`step`](Self::step).
    pub fn uncached(&self, rows: &Rows, device: &Device) -> Step {
        self.step(rows, rows.dims()[1], device)
    }
}

/// What is added to scores, `[batch or 1, 1, 1, seq, keys]`; `None` where every query sees every key.
type Bias = Option<Tensor<5>>;

/// Where the tokens of a pass go in a layer's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachePlace {
    /// The pass's slot that is the cache's first.
    base: usize,
    /// The cache's first slot that they occupy.
    pub(crate) start: usize,
    /// How many of its slots are attended to.
    pub(crate) keys: usize,
}

/// What one pass needs to know besides the tokens: where they stand and what they may see.
#[derive(Clone, Debug)]
pub struct Step {
    /// What cosines and sines are made of.
    tables: Arc<Tables>,
    pub(crate) cos: Tensor<4>,
    pub(crate) sin: Tensor<4>,
    /// One for each reach, made when it is first asked for.
    biases: Vec<(Reach, OnceLock<(CachePlace, Bias)>)>,
    /// For each sequence and slot, whether it is a token and not padding; empty when there is no padding.
    visible: Vec<Vec<bool>>,
    /// New tokens of a sequence.
    seq: usize,
    /// First slot that the tokens occupy in the cache.
    start: usize,
    /// How many slots are attended to.
    keys: usize,
}

impl Step {
    /// Where the tokens go in a layer's cache, in which room is made for them.
    pub(crate) fn place_in(&self, cache: &mut LayerCache) -> CachePlace {
        let end = self.start + self.seq;
        let base = cache.make_room(self.start, end);
        // As many slots that are not used yet are looked at as of a cache that has forgotten nothing.
        CachePlace { base, start: self.start - base, keys: cache.capacity().min(self.keys - base) }
    }

    /// Where the tokens go without a cache.
    pub(crate) fn alone(&self) -> CachePlace {
        CachePlace { base: 0, start: self.start, keys: self.keys }
    }

    /// For each sequence and slot of a cache, whether it is a token and not padding; empty when there is no
    /// padding.
    pub(crate) fn visible(&self, CachePlace { base, .. }: CachePlace) -> Cow<'_, [Vec<bool>]> {
        if base == 0 || self.visible.is_empty() {
            return Cow::Borrowed(&self.visible);
        }
        let rows = self.visible.iter().map(|row| row[base..].to_vec());
        let rows: Vec<_> = rows.collect();
        let padded = rows.iter().any(|row| row.contains(&false));
        Cow::Owned(if padded { rows } else { Vec::new() })
    }

    /// What is added to the scores in a layer of this `reach`.
    ///
    /// # Panics
    /// When no layer of the plan's model has it.
    pub(crate) fn bias(&self, reach: Reach, place: CachePlace) -> Bias {
        let found = self.biases.iter().find(|(known, _)| *known == reach);
        let (_, bias) = found.unwrap_or_else(|| panic!("a step without a mask for {reach:?}"));
        let make = || {
            let visible = self.visible(place);
            let unpadded = [vec![true; place.start + self.seq]];
            let visible = if visible.is_empty() { &unpadded[..] } else { &visible };
            causal_bias(visible, self.seq, place.keys, reach, &self.cos.device())
        };
        let (of, bias) = bias.get_or_init(|| (place, make()));
        // The caches of one reach are alike, unless somebody has made them otherwise.
        if *of == place { bias.clone() } else { make() }
    }

    /// The same pass on another device, which gets its tables and masks from the host.
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        let (cos, sin) = self.tables.on(device);
        Self {
            tables: Arc::clone(&self.tables),
            cos,
            sin,
            biases: self.biases.iter().map(|(reach, _)| (*reach, OnceLock::new())).collect(),
            visible: self.visible.clone(),
            ..*self
        }
    }
}
