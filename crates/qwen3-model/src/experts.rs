use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_config::Experts;

use crate::norm::to_dtype;
use crate::{Linear, Mlp, Qwen3Config, Tap, Taps, WeightSource};

/// A feed-forward block of experts: a router sends each token to a few of them, and what they give is added up by the
/// router's weights.
///
/// Follows Transformers `Qwen3MoeSparseMoeBlock`, `Qwen3MoeTopKRouter` and `Qwen3MoeExperts`. Of experts that are
/// equally probable the first is chosen; Transformers does not say which.
#[derive(Module, Debug)]
pub struct SparseMoeBlock {
    /// The router, `[num_experts, hidden_size]`.
    pub gate: Linear,
    /// The experts, each a block of its own.
    pub experts: Vec<Mlp>,
    /// How many experts a token is sent to.
    pub per_token: usize,
    /// Are the weights of a token's experts divided by their sum?
    pub normalised: bool,
}

impl SparseMoeBlock {
    /// Takes `{prefix}.gate`, and the weights of each expert under `{prefix}.experts.{expert}`, one tensor at a time.
    ///
    /// # Errors
    /// Those of the source.
    pub fn build<S: WeightSource>(
        source: &mut S,
        prefix: &str,
        config: &Qwen3Config,
        experts: Experts,
    ) -> Result<Self, S::Error> {
        let hidden = config.hidden_size;
        let gate = Linear::build(source, &format!("{prefix}.gate"), [experts.count, hidden], false)?;
        let expert = |index| {
            Mlp::build(source, &format!("{prefix}.experts.{index}"), hidden, experts.intermediate_size)
        };
        let blocks = (0..experts.count).map(expert).collect::<Result<_, _>>()?;
        Ok(Self { gate, experts: blocks, per_token: experts.per_token, normalised: experts.normalised })
    }

    /// Maps `x` `[batch, seq, hidden_size]` to the same shape, in the dtype of the weights. Only the experts that
    /// some token is sent to are computed, each once for all its tokens.
    ///
    /// Which those are is read back from the device, once for each call.
    pub fn forward(&self, x: Tensor<3>, taps: &mut Taps) -> Tensor<3> {
        let [batch, seq, hidden] = x.dims();
        let (tokens, k) = (batch * seq, self.per_token);
        let (dtype, device) = (x.dtype(), x.device());
        let x = x.reshape([tokens, hidden]); // [tokens, hidden_size]
        let scores = self.gate.forward(x.clone()); // [tokens, num_experts]
        let probabilities = softmax(to_dtype(scores.clone(), DType::F32), 1); // [tokens, num_experts]
        let chosen = Chosen::of(probabilities.to_data(), k);
        let weighed = |weights: Tensor<2>| {
            let weights = if self.normalised { weights.clone() / weights.sum_dim(1) } else { weights };
            to_dtype(weights, dtype)
        };
        if taps.observed() {
            let mask = chosen.mask(self.experts.len(), &device);
            let all = [batch, seq, self.experts.len()];
            taps.rank3(Tap::RouterLogits, &scores.reshape(all));
            taps.rank3(Tap::ChosenExperts, &mask.clone().reshape(all));
            taps.rank3(Tap::ExpertWeights, &weighed(probabilities.clone() * mask).reshape(all));
        }
        let weights = weighed(probabilities.gather(1, chosen.tensor(&device))); // [tokens, per_token]
        let outputs = self.outputs(x, &chosen, &device).reshape([tokens, k, hidden]); // [tokens, per_token, hidden_size]
        let sums = weights.reshape([tokens, 1, k]).matmul(outputs); // [tokens, 1, hidden_size]
        sums.reshape([batch, seq, hidden]) // [batch, seq, hidden_size]
    }

    /// What each token's experts give, `[tokens * per_token, hidden_size]`.
    fn outputs(&self, x: Tensor<2>, chosen: &Chosen, device: &Device) -> Tensor<2> {
        let (tokens, k) = (x.dims()[0], chosen.per_token);
        // For each expert, the places among the outputs that it is to fill.
        let mut places = vec![Vec::new(); self.experts.len()];
        for (place, expert) in chosen.experts.iter().enumerate() {
            places[*expert].push(place as i64);
        }
        let mut parts = Vec::new();
        for (expert, places) in self.experts.iter().zip(&places).filter(|(_, places)| !places.is_empty()) {
            let rows: Vec<_> = places.iter().map(|place| place / k as i64).collect();
            let x = if rows.len() == tokens { x.clone() } else { x.clone().select(0, indices(rows, device)) };
            parts.push(expert.forward_tokens(x)); // [the expert's tokens, hidden_size]
        }
        let outputs = Tensor::cat(parts, 0); // [tokens * per_token, hidden_size]
        // From the experts' order to the tokens'.
        let filled: Vec<i64> = places.into_iter().flatten().collect();
        let mut order = vec![0; filled.len()];
        for (at, place) in filled.iter().enumerate() {
            order[*place as usize] = at as i64;
        }
        if order.is_sorted() { outputs } else { outputs.select(0, indices(order, device)) }
    }
}

/// The experts of each token, ascending.
struct Chosen {
    /// Those of the first token, then those of the second, ...
    experts: Vec<usize>,
    per_token: usize,
}

impl Chosen {
    /// The `per_token` most probable of `probabilities` `[tokens, num_experts]`.
    fn of(probabilities: TensorData, per_token: usize) -> Self {
        let count = probabilities.shape()[1];
        let probabilities: Vec<f32> = probabilities.iter().collect();
        let experts = probabilities.chunks(count).flat_map(|token| {
            let mut order: Vec<usize> = (0..count).collect();
            // Stable: of equals the first stays first.
            order.sort_by(|a, b| token[*b].total_cmp(&token[*a]));
            order.truncate(per_token);
            order.sort_unstable();
            order
        });
        Self { experts: experts.collect(), per_token }
    }

    /// `[tokens, per_token]`
    fn tensor(&self, device: &Device) -> Tensor<2, Int> {
        let tokens = self.experts.len() / self.per_token;
        let experts = self.experts.iter().map(|expert| *expert as i64);
        indices(experts.collect(), device).reshape([tokens, self.per_token]) // [tokens, per_token]
    }

    /// One for those of each token and zero for the others of `count`, `[tokens, count]` in f32.
    fn mask(&self, count: usize, device: &Device) -> Tensor<2> {
        let tokens = self.experts.len() / self.per_token;
        let mut mask = vec![0.0_f32; tokens * count];
        for (place, expert) in self.experts.iter().enumerate() {
            mask[place / self.per_token * count + expert] = 1.0;
        }
        Tensor::from_data(TensorData::new(mask, [tokens, count]), (device, DType::F32))
    }
}

fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
