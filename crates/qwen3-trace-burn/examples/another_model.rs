//! A Qwen3 that is not this project's, put together of Burn's own modules, and what passes through it as a file:
//!
//! ```sh
//! M=fixtures/checkpoints/gqa-tied R=fixtures/gqa-tied/prompt1/reference.npz
//! cargo run --release -p qwen3-trace-burn --features flex --example another_model -- $M $R mine.safetensors
//! cargo xtask verify --model $M --reference $R --observed mine.safetensors
//! ```
//!
//! It passes. With `burn-rotary` as a fourth word, positions are rotated by Burn's `RotaryEncoding`, which pairs neighbouring
//! features where Qwen3 pairs halves, and verify says so: `cause rope_interleaved`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::Param;
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig, RotaryEncoding, RotaryEncodingConfig};
use qwen3_checkpoint::Checkpoint;
use qwen3_config::Qwen3Config;
use qwen3_trace::Reference;
use qwen3_trace_burn::BurnTrace;

/// Which features of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rotary {
    /// The first and the second half, as Qwen3's are.
    Halves,
    /// Neighbours, as Burn's `RotaryEncoding` does.
    Burn,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (model, reference, out, rotary) = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, reference, out] => (*model, *reference, *out, Rotary::Halves),
        [model, reference, out, "burn-rotary"] => (*model, *reference, *out, Rotary::Burn),
        _ => bail!("usage: another_model MODEL REFERENCE OUT.safetensors [burn-rotary]"),
    };
    run(Path::new(model), Path::new(reference), Path::new(out), rotary)
}

/// Runs the reference's prompt through the model, and writes what passes through it.
pub fn run(model: &Path, reference: &Path, out: &Path, rotary: Rotary) -> Result<()> {
    let device = Device::flex();
    let checkpoint = Checkpoint::open(model)?;
    let config = checkpoint.config();
    let reference = Reference::open(reference, config, true)?;
    let ids = reference.ids.first().context("the reference has no prompt")?;
    let weights = Weights { checkpoint: &checkpoint, device: &device };

    // The trace: made, given a tensor here and there, and written.
    let mut trace = BurnTrace::new(out);
    let embedding = weights.matrix("model.embed_tokens.weight", [config.vocab_size, config.hidden_size])?;
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let ids = Tensor::<1, Int>::from_data(TensorData::from(&ids[..]), &device);
    let mut x = embedding.clone().select(0, ids).unsqueeze::<3>(); // [1, seq, hidden]
    trace.record("embedding_output", &x);
    for layer in 0..config.num_hidden_layers {
        x = decoder_layer(x, layer, &weights, rotary, &mut trace)?;
        trace.record(&format!("layer_{layer:02}_output"), &x);
    }
    let x = weights.norm("model.norm", config.hidden_size)?.forward(x);
    trace.record("final_norm_output", &x);
    let head = match config.tie_word_embeddings {
        true => embedding,
        false => weights.matrix("lm_head.weight", [config.vocab_size, config.hidden_size])?,
    };
    trace.record("logits", &x.matmul(head.transpose().unsqueeze()));
    Ok(trace.write()?)
}

fn decoder_layer(
    x: Tensor<3>,
    layer: usize,
    weights: &Weights,
    rotary: Rotary,
    trace: &mut BurnTrace,
) -> Result<Tensor<3>> {
    let Qwen3Config {
        hidden_size,
        intermediate_size,
        head_dim,
        num_attention_heads,
        num_key_value_heads,
        ..
    } = *weights.checkpoint.config();
    let [batch, seq, _] = x.dims();
    let name = |module: &str| format!("model.layers.{layer}.{module}");
    let linear = |module: &str, out, input| weights.linear(&name(module), out, input);
    let mut record =
        |module: &str, value: &Tensor<3>| trace.record(&format!("layer_{layer:02}.{module}"), value);

    let normed = weights.norm(&name("input_layernorm"), hidden_size)?.forward(x.clone());
    record("input_layernorm", &normed);
    let heads = |module: &str, count: usize| -> Result<Tensor<4>> {
        let projected = linear(module, count * head_dim, hidden_size)?.forward(normed.clone());
        Ok(projected.reshape([batch, seq, count, head_dim]))
    };
    let rotate = |x: Tensor<4>| rotated(x, rotary, weights);
    let q = heads("self_attn.q_proj", num_attention_heads)?;
    let k = heads("self_attn.k_proj", num_key_value_heads)?;
    let v = heads("self_attn.v_proj", num_key_value_heads)?.swap_dims(1, 2); // [batch, kv_heads, seq, head_dim]
    let q = rotate(weights.norm(&name("self_attn.q_norm"), head_dim)?.forward(q).swap_dims(1, 2));
    let k = rotate(weights.norm(&name("self_attn.k_norm"), head_dim)?.forward(k).swap_dims(1, 2));

    let groups = num_attention_heads / num_key_value_heads;
    let repeated = |x: Tensor<4>| {
        let x = x.unsqueeze_dim::<5>(2).repeat_dim(2, groups); // [batch, kv_heads, groups, seq, head_dim]
        x.reshape([batch, num_attention_heads, seq, head_dim])
    };
    let scores = q.matmul(repeated(k).swap_dims(2, 3)) / (head_dim as f64).sqrt(); // [batch, heads, seq, seq]
    let hidden = Tensor::<2, Int>::ones([seq, seq], &x.device()).triu(1).bool();
    let scores = scores.mask_fill(hidden.unsqueeze(), f32::NEG_INFINITY);
    let context = softmax(scores, 3).matmul(repeated(v)).swap_dims(1, 2);
    let context = context.reshape([batch, seq, num_attention_heads * head_dim]);
    record("self_attn.context", &context);
    let attended = linear("self_attn.o_proj", hidden_size, num_attention_heads * head_dim)?.forward(context);
    record("self_attn.o_proj", &attended);
    let x = x + attended;

    let normed = weights.norm(&name("post_attention_layernorm"), hidden_size)?.forward(x.clone());
    let gate = linear("mlp.gate_proj", intermediate_size, hidden_size)?.forward(normed.clone());
    let up = linear("mlp.up_proj", intermediate_size, hidden_size)?.forward(normed);
    let mlp = linear("mlp.down_proj", hidden_size, intermediate_size)?.forward(silu(gate) * up);
    record("mlp", &mlp);
    Ok(x + mlp)
}

fn rotated(x: Tensor<4>, rotary: Rotary, weights: &Weights) -> Tensor<4> {
    let [_, _, seq, head_dim] = x.dims();
    let theta = weights.checkpoint.config().rope.theta();
    if rotary == Rotary::Burn {
        let config = RotaryEncodingConfig::new(seq, head_dim).with_theta(theta as f32);
        let encoding: RotaryEncoding = config.init(weights.device);
        return encoding.forward(x);
    }
    let half = head_dim / 2;
    let angle = |at: usize| (at / half) as f64 * theta.powf(-2.0 * (at % half) as f64 / head_dim as f64);
    let table = |of: fn(f64) -> f64| {
        let values: Vec<f32> = (0..seq * half).map(|at| of(angle(at)) as f32).collect();
        Tensor::<2>::from_data(TensorData::new(values, [seq, half]), weights.device).unsqueeze::<4>()
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin)); // [1, 1, seq, head_dim / 2]
    let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let rotated = first.clone() * cos.clone() - second.clone() * sin.clone();
    Tensor::cat(vec![rotated, second * cos + first * sin], 3)
}

/// The checkpoint's tensors as Burn's modules.
struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
}

impl Weights<'_> {
    fn matrix(&self, key: &str, shape: [usize; 2]) -> Result<Tensor<2>> {
        let values: Vec<f32> = self.checkpoint.values(key, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), (self.device, DType::F32)))
    }

    fn vector(&self, key: &str, size: usize) -> Result<Tensor<1>> {
        let values: Vec<f32> = self.checkpoint.values(key, &[size])?;
        Ok(Tensor::from_data(TensorData::new(values, [size]), (self.device, DType::F32)))
    }

    fn norm(&self, name: &str, size: usize) -> Result<RmsNorm> {
        let epsilon = self.checkpoint.config().rms_norm_eps;
        let mut norm = RmsNormConfig::new(size).with_epsilon(epsilon).init(self.device);
        norm.gamma = Param::from_tensor(self.vector(&format!("{name}.weight"), size)?);
        Ok(norm)
    }

    /// Burn's weights are `[in, out]`.
    fn linear(&self, name: &str, out: usize, input: usize) -> Result<Linear> {
        let bias = format!("{name}.bias");
        let has_bias = self.checkpoint.contains(&bias);
        let mut linear = LinearConfig::new(input, out).with_bias(has_bias).init(self.device);
        linear.weight = Param::from_tensor(self.matrix(&format!("{name}.weight"), [out, input])?.transpose());
        if has_bias {
            linear.bias = Some(Param::from_tensor(self.vector(&bias, out)?));
        }
        Ok(linear)
    }
}
