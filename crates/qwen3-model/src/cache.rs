use burn::tensor::{DType, Device, Distribution, Tensor};

use crate::Qwen3;
use crate::norm::to_dtype;

/// Keys and values of one layer, preallocated and written in place.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// `[batch, num_key_value_heads, capacity, head_dim]`; always `Some` between calls. The tensor is
    /// taken out while it is written so that it has one owner and no backend copies it.
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl LayerCache {
    /// Zeros of `[batch, num_key_value_heads, capacity, head_dim]` in `dtype`.
    pub fn new(shape: [usize; 4], device: &Device, dtype: DType) -> Self {
        let zeros = || Some(Tensor::zeros(shape, (device, dtype)));
        Self { keys: zeros(), values: zeros() }
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
        Self { keys: grown(&self.keys), values: grown(&self.values) }
    }

    /// Writes `keys` and `values` `[batch, num_key_value_heads, seq, head_dim]` (keys after RoPE) to
    /// the slots from `start`, and returns the first `count` slots of both,
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
}

impl KvCache {
    /// Room for `capacity` tokens of `batch` sequences, in the dtype of the model:
    /// `2 * layers * batch * num_key_value_heads * capacity * head_dim` values.
    pub fn new(model: &Qwen3, batch: usize, capacity: usize) -> Self {
        let config = &model.config;
        let shape = [batch, config.num_key_value_heads, capacity, config.head_dim];
        let layers = model
            .model
            .layers
            .iter()
            .map(|layer| LayerCache::new(shape, &layer.device(), model.dtype()))
            .collect();
        Self { layers }
    }

    /// Writes random keys and values, the same in every layer, to `count` slots from `start`.
    pub(crate) fn write_noise(&mut self, start: usize, count: usize) {
        for layer in &mut self.layers {
            let ([batch, heads, _, head_dim], device, dtype) = layer.form();
            let noise = || {
                let noise = Tensor::random([batch, heads, count, head_dim], Distribution::Default, &device);
                to_dtype(noise, dtype)
            };
            layer.write(noise(), noise(), start, start + count);
        }
    }

    /// Makes room for `capacity` tokens, no less than there is; a layer at a time is in memory twice.
    pub(crate) fn grow(&mut self, capacity: usize) {
        for layer in &mut self.layers {
            *layer = layer.grown(capacity);
        }
    }
}
