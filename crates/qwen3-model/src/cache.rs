use burn::tensor::{DType, Device, Distribution, Tensor};
use qwen3_config::Reach;

use crate::Qwen3;
use crate::norm::to_dtype;

/// Keys and values of one layer, preallocated and written in place.
///
/// Of a layer with a window, what no later query sees makes room for what comes: its first slot is then another than
/// the session's.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// `[batch, num_key_value_heads, capacity, head_dim]`; always `Some` between calls. The tensor is
    /// taken out while it is written so that it has one owner and no backend copies it.
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
    /// How far back the layer's queries look.
    reach: Reach,
    /// The session's slot that is its first.
    base: usize,
}

impl LayerCache {
    /// Zeros of `[batch, num_key_value_heads, capacity, head_dim]` in `dtype`, for a layer of this `reach`.
    pub fn new(shape: [usize; 4], reach: Reach, device: &Device, dtype: DType) -> Self {
        let zeros = || Some(Tensor::zeros(shape, (device, dtype)));
        Self { keys: zeros(), values: zeros(), reach, base: 0 }
    }

    /// How many slots it has.
    pub fn capacity(&self) -> usize {
        let ([_, _, capacity, _], _, _) = self.form();
        capacity
    }

    /// Makes room for the session's slots from `start` to `end`, where it needs to be made, and says which of them is
    /// its first. What the query at `start` does not see is forgotten.
    pub(crate) fn make_room(&mut self, start: usize, end: usize) -> usize {
        let Reach::Window(window) = self.reach else {
            return 0;
        };
        if end > self.base + self.capacity() {
            let base = (start + 1).saturating_sub(window).max(self.base);
            for slot in [&mut self.keys, &mut self.values] {
                let old = slot.take().expect("the cache is whole between calls");
                let [batch, heads, _, head_dim] = old.dims();
                let kept = base - self.base..start - self.base;
                let count = kept.len();
                *slot = Some(if kept.is_empty() {
                    old
                } else {
                    let moved = old.clone().slice([0..batch, 0..heads, kept, 0..head_dim]); // [batch, num_key_value_heads, count, head_dim]
                    old.slice_assign([0..batch, 0..heads, 0..count, 0..head_dim], moved)
                });
            }
            self.base = base;
        }
        self.base
    }

    /// Is everything there that a query in the session's slot `slot` sees before it?
    fn holds(&self, slot: usize) -> bool {
        match self.reach {
            Reach::Window(window) => self.base <= (slot + 1).saturating_sub(window),
            Reach::All => true,
        }
    }

    /// Its shape `[batch, num_key_value_heads, capacity, head_dim]`, device and dtype.
    fn form(&self) -> ([usize; 4], Device, DType) {
        let keys = self.keys.as_ref().expect("the cache is whole between calls");
        (keys.dims(), keys.device(), keys.dtype())
    }

    /// The same slots and, behind them, zeros up to `capacity`.
    fn grown(&self, capacity: usize) -> Self {
        let grown = |slot: &Option<Tensor<4>>| {
            let old = slot.clone().expect("the cache is whole between calls");
            let [batch, heads, slots, head_dim] = old.dims();
            let zeros = Tensor::zeros([batch, heads, capacity, head_dim], &old.device());
            let zeros = to_dtype(zeros, old.dtype());
            Some(zeros.slice_assign([0..batch, 0..heads, 0..slots, 0..head_dim], old)) // [batch, num_key_value_heads, capacity, head_dim]
        };
        Self { keys: grown(&self.keys), values: grown(&self.values), ..*self }
    }

    /// Writes `keys` and `values` `[batch, num_key_value_heads, seq, head_dim]` (keys after RoPE) to
    /// its slots from `start`, and returns the first `count` slots of both,
    /// `[batch, num_key_value_heads, count, head_dim]`.
    ///
    /// # Panics
    /// When the slots lie outside the capacity.
    pub fn write(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        start: usize,
        count: usize,
    ) -> (Tensor<4>, Tensor<4>) {
        (write(&mut self.keys, keys, start, count), write(&mut self.values, values, start, count))
    }

    /// Its keys and values, each with one owner, until they are [`put`](Self::put) back.
    pub(crate) fn take(&mut self) -> [Tensor<4>; 2] {
        [&mut self.keys, &mut self.values].map(|slot| slot.take().expect("the cache is whole between calls"))
    }

    pub(crate) fn put(&mut self, [keys, values]: [Tensor<4>; 2]) {
        (self.keys, self.values) = (Some(keys), Some(values));
    }
}

fn write(slot: &mut Option<Tensor<4>>, rows: Tensor<4>, start: usize, count: usize) -> Tensor<4> {
    let [batch, heads, seq, head_dim] = rows.dims();
    let whole = slot.take().expect("the cache is whole between calls");
    let whole = whole.slice_assign([0..batch, 0..heads, start..start + seq, 0..head_dim], rows);
    let window = whole.clone().slice([0..batch, 0..heads, 0..count, 0..head_dim]);
    *slot = Some(whole);
    window // [batch, num_key_value_heads, count, head_dim]
}

/// Keys and values of every layer; each layer's lie on that layer's device.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    /// How many tokens are written at a time at most.
    chunk: usize,
}

impl KvCache {
    /// Room for `capacity` tokens of `batch` sequences, written at most `chunk` at a time, in the dtype of the model:
    /// `2 * batch * num_key_value_heads * head_dim` values for each slot of a layer, which are `capacity`, or
    /// with a window no more than the window and a chunk.
    pub fn new(model: &Qwen3, batch: usize, capacity: usize, chunk: usize) -> Self {
        let config = &model.config;
        let layers = model.model.layers.iter().map(|layer| {
            let reach = layer.self_attn.reach;
            let slots = reach.slots(capacity, chunk);
            let shape = [batch, config.num_key_value_heads, slots, config.head_dim];
            LayerCache::new(shape, reach, &layer.device(), model.dtype())
        });
        Self { layers: layers.collect(), chunk }
    }

    /// Writes random keys and values, the same in every layer, to `count` slots from `start`.
    pub(crate) fn write_noise(&mut self, start: usize, count: usize) {
        let end = start + count;
        for layer in &mut self.layers {
            let ([batch, heads, _, head_dim], device, dtype) = layer.form();
            let noise = |count| {
                let noise = Tensor::random([batch, heads, count, head_dim], Distribution::Default, &device);
                to_dtype(noise, dtype)
            };
            for start in (start..end).step_by(self.chunk) {
                let end = end.min(start + self.chunk);
                let base = layer.make_room(start, end);
                layer.write(noise(end - start), noise(end - start), start - base, end - base);
            }
        }
    }

    /// Is everything there that queries in `slot` see before it?
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.layers.iter().all(|layer| layer.holds(slot))
    }

    /// Begins again with the first slot.
    pub(crate) fn reset(&mut self) {
        for layer in &mut self.layers {
            layer.base = 0;
        }
    }

    /// Makes room for `capacity` tokens, no less than there is; a layer at a time is in memory twice.
    pub(crate) fn grow(&mut self, capacity: usize) {
        for layer in &mut self.layers {
            let slots = layer.reach.slots(capacity, self.chunk);
            if slots > layer.capacity() {
                *layer = layer.grown(slots);
            }
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{Qwen3Config, RandomWeights};

    /// Of a model with windows of 5 tokens in all layers but the first.
    fn cache(capacity: usize, chunk: usize) -> KvCache {
        let mut source = RandomWeights::new(1, &Device::flex(), DType::F32);
        let model = Qwen3::build(&mut source, &Qwen3Config::tiny_windows()).unwrap();
        KvCache::new(&model, 1, capacity, chunk)
    }

    fn capacities(cache: &KvCache) -> Vec<usize> {
        cache.layers.iter().map(LayerCache::capacity).collect()
    }

    #[test]
    fn a_window_needs_no_more_than_itself_and_a_chunk() {
        assert_eq!(capacities(&cache(100, 8)), [100, 12, 12]);
        assert_eq!(capacities(&cache(10, 8)), [10, 10, 10]);
        let mut growing = cache(10, 8);
        growing.grow(50);
        assert_eq!(capacities(&growing), [50, 12, 12]);
    }

    #[test]
    fn what_a_window_still_sees_is_kept() {
        let mut cache = cache(100, 8);
        let layer = &mut cache.layers[1];
        let numbered = |start: usize, count: usize| {
            let values = (start..start + count).flat_map(|slot| vec![slot as f32; 2 * 16]);
            let values = burn::tensor::TensorData::new(values.collect::<Vec<_>>(), [1, count, 2, 16]);
            Tensor::<4>::from_data(values, (&Device::flex(), DType::F32)).swap_dims(1, 2)
        };
        for (start, count, base) in [(0, 8, 0), (8, 4, 0), (12, 1, 8), (13, 7, 8), (20, 8, 16), (28, 1, 24)] {
            let end = start + count;
            assert_eq!(layer.make_room(start, end), base);
            let (keys, _) =
                layer.write(numbered(start, count), numbered(start, count), start - base, end - base);
            let held =
                keys.slice([0..1, 0..1, 0..end - base, 0..1]).into_data().iter::<f32>().collect::<Vec<_>>();
            let first = (start + 1).saturating_sub(5);
            let seen: Vec<f32> = (first..end).map(|slot| slot as f32).collect();
            assert_eq!(held[first - base..], seen);
        }
        assert!(layer.holds(29) && layer.holds(28) && !layer.holds(27));
    }
}
