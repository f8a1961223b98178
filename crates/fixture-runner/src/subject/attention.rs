//! Attention on its own: the weights and the past come from the fixture, the kernel and the cache from the
//! model.

use anyhow::{Result, ensure};
use burn::tensor::Tensor;
use qwen3_model::{AttendOptions, LayerCache, Linear, Reach, attend, causal_bias};
use qwen3_trace::TensorFile;

use super::{Bench, Output};
use crate::manifest::AttentionSizes;

/// The cache has room for a multiple of this, so that some slots stay unused.
const SLOTS: usize = 16;

/// A cache and how many slots of it the past takes.
struct Filled {
    cache: LayerCache,
    past: usize,
}

impl Bench<'_> {
    /// Projects all tokens, attends chunk by chunk, through a cache where there is something to keep, and
    /// projects the contexts.
    pub(super) fn attention_alone(&self, sizes: &AttentionSizes, file: &TensorFile) -> Result<Vec<Output>> {
        let query = self.heads(file, "x_q", "q_proj", sizes.num_attention_heads)?;
        let key = self.heads(file, "x_kv", "k_proj", sizes.num_key_value_heads)?;
        let value = self.heads(file, "x_kv", "v_proj", sizes.num_key_value_heads)?;
        let o_proj = self.linear(file, "o_proj")?;
        check_shapes(sizes, &query, &key, &value, &o_proj)?;
        let states = [("query_states", &query), ("key_states", &key), ("value_states", &value)];
        let states = states.map(|(name, states)| Output::new(name, states.clone().into_data()));
        let mut outputs = Vec::from(states);

        let mut filled = self.filled_cache(file, sizes, &key, &value)?;
        let past = filled.as_ref().map_or(0, |filled| filled.past);
        let mut contexts = Vec::new();
        let mut seen = (key.clone(), value.clone());
        let mut start = 0;
        for &length in &sizes.chunks {
            let rows = |states: &Tensor<4>| states.clone().narrow(2, start, length);
            let (slot, keys) = (past + start, past + start + length);
            if let Some(Filled { cache, .. }) = &mut filled {
                seen = cache.write(rows(&key), rows(&value), slot, keys);
            }
            let (query, bias) =
                if sizes.causal { (rows(&query), self.bias(length, keys)) } else { (query.clone(), None) };
            let (keys, values) = seen.clone();
            contexts.push(context(query, keys, values, bias, None));
            start += length;
        }

        let project = |context: &Tensor<3>| o_proj.forward3(context.clone()).into_data();
        if sizes.causal || contexts.len() == 1 {
            let context = Tensor::cat(contexts, 1); // [batch, queries, heads * value_dim]
            outputs.push(Output::new("context", context.clone().into_data()));
            outputs.push(Output::new("output", project(&context)));
        } else {
            for (number, context) in contexts.iter().enumerate() {
                let data = context.clone().into_data();
                outputs.push(Output::new(format!("context_{number:02}"), data));
                outputs.push(Output::new(format!("output_{number:02}"), project(context)));
            }
        }
        if filled.is_some() {
            let (keys, values) = seen;
            outputs.push(Output::new("cached_keys", keys.into_data()));
            outputs.push(Output::new("cached_values", values.into_data()));
        } else if file.has("dropout_mask") {
            let dropout = self.input::<4>(file, "dropout_mask")?;
            let ([batch, heads, queries, _], keys) = (query.dims(), key.dims()[2]);
            ensure!(
                dropout.dims() == [batch, heads, queries, keys],
                "tensor `dropout_mask` has shape {:?}, but the weights {:?}",
                dropout.dims(),
                [batch, heads, queries, keys]
            );
            let bias = sizes.causal.then(|| self.bias(queries, keys)).flatten();
            let context = context(query, key, value, bias, Some(dropout));
            outputs.push(Output::new("output_training", project(&context)));
        }
        Ok(outputs)
    }

    /// `x` `[batch, seq, features]` through `weight` `[heads * size, features]`:
    /// `[batch, heads, seq, size]`.
    fn heads(&self, file: &TensorFile, x: &str, weight: &str, heads: usize) -> Result<Tensor<4>> {
        let (input, linear) = (self.input::<3>(file, x)?, self.linear(file, weight)?);
        let ([batch, seq, features], [out, expected]) = (input.dims(), linear.weight.val().dims());
        ensure!(
            features == expected && out.is_multiple_of(heads),
            "tensor `{weight}` of shape {:?} makes no {heads} heads of `{x}` of shape {:?}",
            [out, expected],
            [batch, seq, features]
        );
        let states = linear.forward3(input);
        let states = states.reshape([batch, seq, heads, out / heads]); // [batch, seq, heads, size]
        Ok(states.swap_dims(1, 2)) // [batch, heads, seq, size]
    }

    /// A projection without bias, `[out, in]`.
    fn linear(&self, file: &TensorFile, name: &str) -> Result<Linear> {
        Ok(Linear { kernel: self.kernel, ..Linear::new(self.input::<2>(file, name)?, None) })
    }

    /// A cache with the case's past in it; none when all keys come at once and without a past.
    fn filled_cache(
        &self,
        file: &TensorFile,
        sizes: &AttentionSizes,
        key: &Tensor<4>,
        value: &Tensor<4>,
    ) -> Result<Option<Filled>> {
        let has_past = file.has("past_key");
        if !has_past && sizes.chunks.len() == 1 {
            return Ok(None);
        }
        let [batch, heads, new, size] = key.dims();
        ensure!(
            value.dims()[3] == size,
            "a cache holds keys and values of one size, not {size} and {}",
            value.dims()[3]
        );
        let new_cache = |past: usize| {
            let capacity = (past + new).next_multiple_of(SLOTS);
            LayerCache::new([batch, heads, capacity, size], Reach::All, self.device, self.dtype)
        };
        if !has_past {
            let cache = new_cache(0);
            return Ok(Some(Filled { cache, past: 0 }));
        }
        let keys = self.input::<4>(file, "past_key")?;
        let values = self.input::<4>(file, "past_value")?;
        let past = keys.dims()[2];
        let expected = [batch, heads, past, size];
        ensure!(
            keys.dims() == expected && values.dims() == expected,
            "`past_key` of shape {:?} and `past_value` of shape {:?}, expected {expected:?}",
            keys.dims(),
            values.dims()
        );
        let mut cache = new_cache(past);
        cache.write(keys, values, 0, past);
        Ok(Some(Filled { cache, past }))
    }

    /// The mask of `seq` queries in the last of `keys` slots without padding.
    fn bias(&self, seq: usize, keys: usize) -> Option<Tensor<5>> {
        causal_bias(&[vec![true; keys]], seq, keys, Reach::All, self.device)
    }
}

/// The projected tensors fit one another, the chunks and the output projection.
fn check_shapes(
    sizes: &AttentionSizes,
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    o_proj: &Linear,
) -> Result<()> {
    let ([batch, heads, queries, size], [key_batch, _, keys, key_size]) = (query.dims(), key.dims());
    ensure!(
        batch == key_batch && size == key_size,
        "queries of shape {:?} cannot read keys of shape {:?}",
        query.dims(),
        key.dims()
    );
    let mut chunks = sizes.chunks.iter();
    let arriving = chunks.try_fold(0_usize, |sum, chunk| sum.checked_add(*chunk));
    ensure!(arriving == Some(keys), "the chunks {:?} are not the {keys} keys", sizes.chunks);
    ensure!(!sizes.causal || queries == keys, "a causal case has {queries} queries and {keys} new keys");
    let ([_, features], value_size) = (o_proj.weight.val().dims(), value.dims()[3]);
    ensure!(
        features == heads * value_size,
        "tensor `o_proj` takes {features} features, {heads} heads give {}",
        heads * value_size
    );
    Ok(())
}

/// The context of all heads, `[batch, queries, heads * value_dim]`.
fn context(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<5>>,
    dropout: Option<Tensor<4>>,
) -> Tensor<3> {
    let options = AttendOptions { scale: (query.dims()[3] as f64).powf(-0.5), bias, dropout };
    let context = attend(query, key, value, options);
    let [batch, heads, queries, size] = context.dims();
    context.swap_dims(1, 2).reshape([batch, queries, heads * size]) // [batch, queries, heads * value_dim]
}
