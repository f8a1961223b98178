use burn::module::Module;
use burn::tensor::{DType, Tensor, activation::softmax};

use qwen3_config::Reach;
use qwen3_kernels::{Projections, Visibility};

use crate::linear::project;
use crate::norm::to_dtype;
use crate::rope::rotate;
use crate::{LayerCache, Linear, Qwen3Config, RmsNorm, Step, Tap, Taps, WeightSource};

/// Grouped-query self-attention with a norm on every query and key head.
///
/// Follows Transformers `Qwen3Attention` with `eager_attention_forward`.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[num_attention_heads * head_dim, hidden_size]`
    pub q_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`
    pub k_proj: Linear,
    /// `[num_key_value_heads * head_dim, hidden_size]`
    pub v_proj: Linear,
    /// `[hidden_size, num_attention_heads * head_dim]`
    pub o_proj: Linear,
    /// Over `head_dim`, before RoPE.
    pub q_norm: RmsNorm,
    /// Over `head_dim`, before RoPE.
    pub k_norm: RmsNorm,
    /// Features of a head; independent of `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// How far back it looks.
    #[module(skip)]
    pub reach: Reach,
}

impl Attention {
    /// Takes the four projections and two norms under `{prefix}.`, for a layer of this `reach`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        config: &Qwen3Config,
        reach: Reach,
    ) -> Result<Self, S::Error> {
        let (hidden, head_dim, eps) = (config.hidden_size, config.head_dim, config.rms_norm_eps);
        let queries = config.num_attention_heads * head_dim;
        let keys = config.num_key_value_heads * head_dim;
        let mut linear = |name: &str, shape| {
            Linear::build(source, &format!("{prefix}.{name}"), shape, config.attention_bias)
        };
        Ok(Self {
            q_proj: linear("q_proj", [queries, hidden])?,
            k_proj: linear("k_proj", [keys, hidden])?,
            v_proj: linear("v_proj", [keys, hidden])?,
            o_proj: linear("o_proj", [hidden, queries])?,
            q_norm: RmsNorm::build(source, &format!("{prefix}.q_norm"), head_dim, eps)?,
            k_norm: RmsNorm::build(source, &format!("{prefix}.k_norm"), head_dim, eps)?,
            head_dim,
            reach,
        })
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape. With a cache, the new keys and values
    /// are written to it and everything in it is attended to, as `step` says.
    pub fn forward(
        &self,
        x: Tensor<3>,
        step: &Step,
        cache: Option<&mut LayerCache>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let [batch, seq, hidden] = x.dims();
        let x = x.reshape([batch * seq, hidden]); // [batch * seq, hidden_size]
        let projected = project([&self.q_proj, &self.k_proj, &self.v_proj], &x);
        if taps.observed() {
            for (tap, x) in [Tap::QProj, Tap::KProj, Tap::VProj].into_iter().zip(&projected) {
                let features = x.dims()[1];
                taps.rank3(tap, &x.clone().reshape([batch, seq, features])); // [batch, seq, heads * head_dim]
            }
        }
        let context = if self.has_kernels(&projected[0]) {
            self.by_kernels(batch, &projected, step, cache, taps)
        } else {
            self.composed(batch, projected, step, cache, taps)
        };
        taps.rank3(Tap::Context, &context);

        let output = self.o_proj.forward3(context);
        taps.rank3(Tap::OProj, &output);
        output
    }

    fn has_kernels(&self, x: &Tensor<2>) -> bool {
        self.q_norm.kernel.computes(x) && self.q_norm.eps == self.k_norm.eps
    }

    /// The context `[batch, seq, heads * head_dim]` of projected queries, keys and values
    /// `[batch * seq, heads * head_dim]`, by two kernels: what comes before attention, and attention.
    fn by_kernels(
        &self,
        batch: usize,
        projected: &[Tensor<2>; 3],
        step: &Step,
        cache: Option<&mut LayerCache>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let [q, k, v] = projected;
        let ([rows, features], head_dim, kernel) = (k.dims(), self.head_dim, self.q_norm.kernel);
        let (seq, kv_heads) = (rows / batch, features / head_dim);
        if taps.observed() {
            taps.rank4(Tap::QNorm, &self.q_norm.forward(self.heads(batch, q.clone())));
            taps.rank4(Tap::KNorm, &self.k_norm.forward(self.heads(batch, k.clone())));
        }
        let mut own;
        let cache = match cache {
            Some(cache) => cache,
            None => {
                let shape = [batch, kv_heads, step.alone().start + seq, head_dim];
                own = LayerCache::new(shape, self.reach, &q.device(), q.dtype());
                &mut own
            }
        };
        let place = step.place_in(cache);
        let heads = Projections {
            q,
            k,
            v,
            q_norm: &self.q_norm.weight.val(),
            k_norm: &self.k_norm.weight.val(),
            eps: self.q_norm.eps,
            cos: &step.cos,
            sin: &step.sin,
            start: place.start,
        };
        let (q, [keys, values]) = kernel.write_heads(&heads, cache.take());
        if taps.observed() {
            let new = [0..batch, 0..kv_heads, place.start..place.start + seq, 0..head_dim];
            taps.rank4(Tap::QRope, &q.clone().swap_dims(1, 2));
            taps.rank4(Tap::KRope, &keys.clone().slice(new)); // [batch, kv_heads, seq, head_dim]
        }
        let window = match self.reach {
            Reach::All => None,
            Reach::Window(window) => Some(window),
        };
        let visible = step.visible(place);
        let visibility = Visibility { start: place.start, visible: &visible, window, scale: self.scale() };
        let context = kernel.attend(&q, &keys, &values, &visibility);
        cache.put([keys, values]);
        context
    }

    /// [`by_kernels`](Self::by_kernels) of Burn's own operations, on every backend.
    fn composed(
        &self,
        batch: usize,
        projected: [Tensor<2>; 3],
        step: &Step,
        cache: Option<&mut LayerCache>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let [q, k, v] = projected.map(|x| self.heads(batch, x));
        let q = self.q_norm.forward(q);
        let k = self.k_norm.forward(k);
        taps.rank4(Tap::QNorm, &q);
        taps.rank4(Tap::KNorm, &k);

        let q = rotate(q.swap_dims(1, 2), &step.cos, &step.sin);
        let k = rotate(k.swap_dims(1, 2), &step.cos, &step.sin);
        let v = v.swap_dims(1, 2); // [batch, kv_heads, seq, head_dim]
        taps.rank4(Tap::QRope, &q);
        taps.rank4(Tap::KRope, &k);

        let (place, (k, v)) = match cache {
            Some(cache) => {
                let place = step.place_in(cache);
                (place, cache.write(k, v, place.start, place.keys))
            }
            None => (step.alone(), (k, v)),
        };
        let bias = step.bias(self.reach, place);
        let options = AttendOptions { scale: self.scale(), bias, dropout: None };
        let context = attend(q, k, v, options);
        let [_, heads, seq, _] = context.dims();
        context.swap_dims(1, 2).reshape([batch, seq, heads * self.head_dim]) // [batch, seq, heads * head_dim]
    }

    /// `x` `[batch * seq, heads * head_dim]` as `[batch, seq, heads, head_dim]`.
    fn heads(&self, batch: usize, x: Tensor<2>) -> Tensor<4> {
        let [rows, features] = x.dims();
        x.reshape([batch, rows / batch, features / self.head_dim, self.head_dim]) // [batch, seq, heads, head_dim]
    }

    /// Factor of the scores.
    fn scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }
}

/// What [`attend`] does with the scores and the weights.
#[derive(Clone, Debug)]
pub struct AttendOptions {
    /// Factor of the scores; `head_dim^-0.5` in Qwen3.
    pub scale: f64,
    /// Added to the scaled scores: f32, broadcastable to `[batch, kv_heads, groups, seq, keys]`.
    /// [`causal_bias`](crate::causal_bias) makes one. `None` lets every query see every key.
    pub bias: Option<Tensor<5>>,
    /// Multiplies the weights, for dropout in training: 0 where a weight is dropped, else
    /// `1 / (1 - p)`; `[batch, heads, seq, keys]` in the dtype of the queries. `None` keeps all.
    pub dropout: Option<Tensor<4>>,
}

/// Scaled dot-product attention of `q` `[batch, heads, seq, head_dim]` over `k`
/// `[batch, kv_heads, keys, head_dim]` and `v` `[batch, kv_heads, keys, value_dim]`; gives
/// `[batch, heads, seq, value_dim]`.
///
/// Follows Transformers `eager_attention_forward`, the random numbers of its dropout being given.
/// Query head `h` reads key head `h / (heads / kv_heads)`. Scores are computed in the dtype of `q`; the
/// softmax in f32, then cast back, and only then dropped.
///
/// # Panics
/// When `heads` is not a multiple of `kv_heads`.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, options: AttendOptions) -> Tensor<4> {
    let AttendOptions { scale, bias, dropout } = options;
    let [batch, heads, seq, head_dim] = q.dims();
    let [_, kv_heads, keys, value_dim] = v.dims();
    assert!(heads.is_multiple_of(kv_heads), "{heads} query heads cannot share {kv_heads} key heads");
    let groups = heads / kv_heads;
    let dtype = q.dtype();

    // The heads of a group stand one under the other, so k and v are never repeated.
    let q = q.reshape([batch, kv_heads, groups * seq, head_dim]); // [batch, kv_heads, groups * seq, head_dim]
    let scores = q.matmul(k.swap_dims(2, 3)) * scale; // [batch, kv_heads, groups * seq, keys]
    let scores = to_dtype(scores, DType::F32).reshape([batch, kv_heads, groups, seq, keys]); // [batch, kv_heads, groups, seq, keys]
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    let weights = to_dtype(softmax(scores, 4), dtype);
    let weights = weights.reshape([batch, kv_heads, groups * seq, keys]); // [batch, kv_heads, groups * seq, keys]
    let weights = match dropout {
        Some(mask) => weights * mask.reshape([batch, kv_heads, groups * seq, keys]), // [batch, kv_heads, groups * seq, keys]
        None => weights,
    };
    weights.matmul(v).reshape([batch, heads, seq, value_dim]) // [batch, heads, seq, value_dim]
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const BATCH: usize = 2;
    const HEADS: usize = 4;
    const SEQ: usize = 3;
    const KEYS: usize = 5;
    const VALUE_DIM: usize = 2;

    /// Numbers that follow no pattern.
    fn tensor(shape: [usize; 4], seed: f32) -> Tensor<4> {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|index| ((index as f32 + seed) * 12.9898).sin());
        let data = TensorData::new(values.collect::<Vec<_>>(), shape);
        Tensor::from_data(data, (&Device::flex(), DType::F32))
    }

    /// Four query heads on two key heads; values narrower than keys.
    fn run(dropout: Option<Tensor<4>>) -> Vec<f32> {
        let options = AttendOptions { scale: 0.5, bias: None, dropout };
        let context = attend(
            tensor([BATCH, HEADS, SEQ, 6], 0.1),
            tensor([BATCH, 2, KEYS, 6], 0.2),
            tensor([BATCH, 2, KEYS, VALUE_DIM], 0.3),
            options,
        );
        assert_eq!(context.dims(), [BATCH, HEADS, SEQ, VALUE_DIM]);
        context.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn dropout_that_keeps_everything_changes_nothing() {
        let ones = tensor([BATCH, HEADS, SEQ, KEYS], 0.0).ones_like();
        assert_eq!(run(Some(ones)), run(None));
    }

    /// The mask of a row `(batch, head, query)` acts on that row and on no other.
    #[test]
    fn dropout_goes_by_batch_head_and_query() {
        let expected = run(None);
        for row in 0..BATCH * HEADS * SEQ {
            let mut mask = vec![1.0_f32; BATCH * HEADS * SEQ * KEYS];
            mask[row * KEYS..(row + 1) * KEYS].fill(0.0);
            let data = TensorData::new(mask, [BATCH, HEADS, SEQ, KEYS]);
            let mask = Tensor::from_data(data, (&Device::flex(), DType::F32));
            let found = run(Some(mask));
            let own = row * VALUE_DIM..(row + 1) * VALUE_DIM;
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let expected = if own.contains(&index) { 0.0 } else { *expected };
                assert_eq!(*found, expected, "row {row}, element {index}");
            }
        }
    }
}
