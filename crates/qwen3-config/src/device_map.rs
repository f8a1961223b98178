//! Which part of a model lies on which device.

use std::cell::Cell;
use std::ops::{Range, RangeInclusive};

use thiserror::Error;

use crate::error::invalid_text;
use crate::{ConfigError, Extent, FeedForwardKind, HEAD, Precision, Qwen3Config};

/// A part of a model that lies on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPart {
    /// The token embedding.
    Embedding,
    /// The decoder layer of this number, and its cache.
    Layer(usize),
    /// The last norm and the head.
    End,
}

/// Which device each part of a model lies on: decoder layers in consecutive ranges, the embedding before the first and
/// the last norm and the head behind the last.
///
/// Devices are named here (`DeviceMap<DeviceName>`) and opened later ([`try_map`](Self::try_map)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMap<D> {
    /// First layer, number of layers, device; consecutive from layer 0 on. A device that holds the embedding or the
    /// end alone has none.
    stages: Vec<(usize, usize, D)>,
}

/// How much of a model's memory is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// How much of it.
    pub extent: Extent,
    /// The dtype of weights and caches.
    pub dtype: Precision,
    /// Sequences side by side.
    pub batch: usize,
    /// Tokens that each sequence's cache has room for.
    pub context: usize,
    /// Tokens written to the cache at a time at most.
    pub chunk: usize,
}

/// Why a model cannot be put onto devices.
#[derive(Debug, Error)]
pub enum DeviceMapError {
    /// A list of devices is not what it should be; names the entry as a file would.
    #[error(transparent)]
    Field(#[from] ConfigError),
    /// Devices have too little memory.
    #[error(
        "{missing} bytes of memory are missing: of `{field}` {left} are left for {parts}, which take {needed}"
    )]
    Full {
        /// The last device's budget, as a file names it.
        field: String,
        /// Bytes that are left of it.
        left: u64,
        /// What has no place.
        parts: String,
        /// Bytes of that.
        needed: u64,
        /// Bytes that are missing on the last device.
        missing: u64,
    },
}

impl<D> DeviceMap<D> {
    /// All of a model with so many layers on one device.
    pub fn whole(device: D, layers: usize) -> Self {
        Self { stages: vec![(0, layers, device)] }
    }

    /// The layers of each range on a device, first to last, the embedding on the first device, the last norm and the
    /// head on the last.
    ///
    /// # Errors
    /// [`DeviceMapError::Field`] when the ranges are not all layers from 0 to `layers - 1`, each once and in order:
    /// the error calls them `devices[0].layers` and so on.
    pub fn of_ranges(
        ranges: impl IntoIterator<Item = (RangeInclusive<usize>, D)>,
        layers: usize,
    ) -> Result<Self, DeviceMapError> {
        let mut stages: Vec<(usize, usize, D)> = Vec::new();
        let mut next = 0;
        let mut last = None;
        for (index, (range, device)) in ranges.into_iter().enumerate() {
            let (first, end) = range.clone().into_inner();
            let wrong = |expected: String| Err(wrong_range(index, &range, expected).into());
            if first > end {
                return wrong("its first layer and its last, which is no less".into());
            }
            if end >= layers {
                return wrong(format!("layers below {layers}, which the model has"));
            }
            if first > next {
                return wrong(format!("a range that begins with layer {next}, which no device has"));
            }
            if first < next {
                return wrong(format!(
                    "a range that begins with layer {next}: devices before it have those up to {}",
                    next - 1
                ));
            }
            stages.push((first, end + 1 - first, device));
            next = end + 1;
            last = Some((index, range));
        }
        match last {
            None => Err(invalid_text("devices", "[]", "at least one device").into()),
            Some((index, range)) if next < layers => {
                let expected = format!("a range that ends with layer {}, the model's last", layers - 1);
                Err(wrong_range(index, &range, expected).into())
            }
            Some(_) => Ok(Self { stages }),
        }
    }

    /// Fills `devices`, each with its budget in bytes, one after the other: parts go in the order in which tokens pass
    /// through them onto the first device, as long as there is room for weights and cache, then onto the next. A tied
    /// head counts where it is not on the embedding's device. A device that is too small for anything is left out.
    ///
    /// Activations, and what a backend keeps for itself, are not counted: leave some of a device's memory out of its
    /// budget.
    ///
    /// # Errors
    /// [`DeviceMapError::Full`], saying how much is missing on the last device, which it calls `devices[1].memory`,
    /// and [`DeviceMapError::Field`] when there is no device.
    pub fn fill(
        config: &Qwen3Config,
        footprint: Footprint,
        devices: impl IntoIterator<Item = (D, u64)>,
    ) -> Result<Self, DeviceMapError> {
        let parts = PartBytes::new(config, footprint);
        let mut stages = Vec::new();
        let (mut next, mut last) = (0, None);
        for (index, (device, budget)) in devices.into_iter().enumerate() {
            last = Some((index, budget));
            let mut left = budget;
            if stages.is_empty() {
                let Some(rest) = budget.checked_sub(parts.embedding()) else { continue };
                left = rest;
            }
            let first = next;
            while next < config.num_hidden_layers && parts.layer(next) <= left {
                left -= parts.layer(next);
                next += 1;
            }
            let done = next == config.num_hidden_layers && parts.end(stages.is_empty()) <= left;
            if next > first || done || stages.is_empty() {
                stages.push((first, next - first, device));
            }
            if done {
                return Ok(Self { stages });
            }
            last = Some((index, left));
        }
        let Some((index, left)) = last else {
            return Err(invalid_text("devices", "[]", "at least one device").into());
        };
        let (parts, needed) = parts.rest(stages.is_empty(), next, index == 0);
        let field = format!("devices[{index}].memory");
        Err(DeviceMapError::Full { field, left, parts, needed, missing: needed.saturating_sub(left) })
    }

    /// The device that `part` lies on.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn device(&self, part: ModelPart) -> &D {
        let (_, _, device) = match part {
            ModelPart::Embedding => self.stages.first(),
            ModelPart::Layer(layer) => {
                self.stages.iter().find(|(first, count, _)| (*first..first + count).contains(&layer))
            }
            ModelPart::End => self.stages.last(),
        }
        .unwrap_or_else(|| panic!("no device has {part:?}"));
        device
    }

    /// The devices in the order in which tokens pass through them, each with its layers: the first one's and how many.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = (&D, Range<usize>)> {
        self.stages.iter().map(|(first, count, device)| (device, *first..first + count))
    }

    /// Bytes of weights and caches on each of the [`stages`](Self::stages).
    pub fn bytes(&self, config: &Qwen3Config, footprint: Footprint) -> Vec<u64> {
        let parts = PartBytes::new(config, footprint);
        let last = self.stages.len() - 1;
        let bytes = self.stages.iter().enumerate().map(|(index, (first, count, _))| {
            let layers = (*first..first + count).map(|layer| parts.layer(layer));
            let ends = [(index == 0, parts.embedding()), (index == last, parts.end(last == 0))];
            let ends = ends.into_iter().filter_map(|(here, bytes)| here.then_some(bytes));
            layers.chain(ends).fold(0, u64::saturating_add)
        });
        bytes.collect()
    }

    /// The same parts on what `open` makes of the devices.
    ///
    /// # Errors
    /// The first of `open`.
    pub fn try_map<T, E>(self, mut open: impl FnMut(D) -> Result<T, E>) -> Result<DeviceMap<T>, E> {
        let stages = self.stages.into_iter();
        let stages = stages.map(|(first, count, device)| Ok((first, count, open(device)?)));
        Ok(DeviceMap { stages: stages.collect::<Result<_, E>>()? })
    }
}

fn wrong_range(index: usize, range: &RangeInclusive<usize>, expected: String) -> ConfigError {
    let found = format!("[{}, {}]", range.start(), range.end());
    invalid_text(&format!("devices[{index}].layers"), &found, expected)
}

/// Bytes of the parts of a model.
struct PartBytes<'a> {
    config: &'a Qwen3Config,
    footprint: Footprint,
    /// The weights of the kind of layer that was counted last: mostly all are of one.
    counted: Cell<Option<(FeedForwardKind, u64)>>,
}

impl<'a> PartBytes<'a> {
    fn new(config: &'a Qwen3Config, footprint: Footprint) -> Self {
        Self { config, footprint, counted: Cell::new(None) }
    }

    fn weights(&self, values: usize) -> u64 {
        values.saturating_mul(self.footprint.dtype.bytes()) as u64
    }

    fn embedding(&self) -> u64 {
        self.weights(self.config.vocabulary_parameters())
    }

    fn layer(&self, layer: usize) -> u64 {
        let Footprint { dtype, batch, context, chunk, .. } = self.footprint;
        let kind = self.config.layer(layer).feed_forward;
        let weights = match self.counted.get() {
            Some((counted, bytes)) if counted == kind => bytes,
            _ => self.weights(self.config.layer_parameters(layer)),
        };
        self.counted.set(Some((kind, weights)));
        let cache = self.config.layer_cache_bytes(layer, context, chunk, dtype).saturating_mul(batch);
        weights.saturating_add(cache as u64)
    }

    /// Is there a head: a tied one, or one of its own that is meant, too?
    fn has_head(&self) -> bool {
        self.config.tie_word_embeddings || self.footprint.extent.holds(HEAD)
    }

    /// Of the last norm and the head, if there is one, which a tied model shares `with_embedding`, where both are on one
    /// device.
    fn end(&self, with_embedding: bool) -> u64 {
        let shared = self.config.tie_word_embeddings && with_embedding;
        let head = if shared || !self.has_head() { 0 } else { self.config.vocabulary_parameters() };
        self.weights(self.config.hidden_size.saturating_add(head))
    }

    /// What comes from layer `next` on, and before that the embedding where it has no place either, in words, and its
    /// bytes. `alone`: there is one device.
    fn rest(&self, embedding: bool, next: usize, alone: bool) -> (String, u64) {
        let layers = self.config.num_hidden_layers;
        let mut words = Vec::new();
        let mut bytes = self.end(alone);
        if embedding {
            words.push("the embedding".to_string());
            bytes = bytes.saturating_add(self.embedding());
        }
        match layers - next {
            0 => {}
            1 => words.push(format!("layer {next}")),
            _ => words.push(format!("layers {next} to {}", layers - 1)),
        }
        words.push(if self.has_head() { "the last norm and the head" } else { "the last norm" }.into());
        let bytes = (next..layers).map(|layer| self.layer(layer)).fold(bytes, u64::saturating_add);
        (words.join(", "), bytes)
    }
}
