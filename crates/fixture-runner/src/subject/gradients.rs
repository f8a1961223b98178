//! The backward pass: a loss and its gradient in every parameter.

use anyhow::{Result, ensure};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData};
use qwen3_import::load;
use qwen3_model::{StepPlan, Taps};
use qwen3_trace::{Rows, TensorFile};

use super::inputs::{Grid, read_mask, token};
use super::{Bench, Output};

/// What the names of gradients begin with; a parameter's key follows.
const PREFIX: &str = "gradient.";

/// The parameters of a layer in the order in which the backward pass reaches them.
const BACKWARDS: [&str; 13] = [
    "mlp.down_proj",
    "mlp.up_proj",
    "mlp.gate_proj",
    "mlp.experts.",
    "mlp.gate.",
    "post_attention_layernorm",
    "self_attn.o_proj",
    "self_attn.v_proj",
    "self_attn.k_norm",
    "self_attn.q_norm",
    "self_attn.k_proj",
    "self_attn.q_proj",
    "input_layernorm",
];

impl Bench<'_> {
    /// `loss` `[1]`, the mean cross entropy of every next token behind a token, and its gradients, in the
    /// order of the backward pass.
    pub(super) fn gradients(&self, checkpoint: &str, file: &TensorFile) -> Result<Vec<Output>> {
        let device = self.device.clone().autodiff();
        let model = load(self.folder(checkpoint)?, &device, self.dtype)?;
        let ids = Grid::read(file, "input_ids")?;
        let (batch, seq) = (ids.rows.len(), ids.rows[0].len());
        ensure!(seq > 1, "`input_ids` has no next token");
        let visible = read_mask(file)?.unwrap_or_else(|| vec![vec![true; seq]; batch]);
        ensure!(
            visible.len() == batch && visible[0].len() == seq,
            "`attention_mask` and `input_ids` differ in shape"
        );
        let vocab = model.config.vocab_size;
        for id in ids.rows.iter().flatten() {
            ensure!((token(*id)? as usize) < vocab, "token {id} is not below vocab_size {vocab}");
        }

        let rows = Rows::of_mask(visible);
        let step = StepPlan::new(&model.config).uncached(&rows, &device);
        let tokens = integers(&ids.rows, &device);
        let hidden = model.hidden(tokens, &step, None, &mut Taps::none());
        let logits = model.logits(hidden, &mut Taps::none()); // [batch, seq, vocab_size]
        let loss = next_token_loss(logits, &ids.rows, &rows.visible);

        let gradients = loss.backward();
        let mut found = Collected { gradients: &gradients, path: Vec::new(), blocks: Vec::new() };
        model.visit(&mut found);
        let mut outputs = vec![Output::new("loss", loss.into_data())];
        outputs.extend(found.outputs(model.config.num_hidden_layers));
        Ok(outputs)
    }
}

fn integers(rows: &[Vec<i64>], device: &Device) -> Tensor<2, Int> {
    let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
    Tensor::from_data(data, device)
}

/// As Transformers' `ForCausalLMLoss`: in f32, the mean over the tokens that are not padding and have a
/// next one. `logits` `[batch, seq, vocab_size]`.
fn next_token_loss(logits: Tensor<3>, ids: &[Vec<i64>], visible: &[Vec<bool>]) -> Tensor<1> {
    let [batch, seq, vocab] = logits.dims();
    let device = logits.device();
    let next = ids.iter().map(|row| row[1..].to_vec()).collect::<Vec<_>>();
    let targets = integers(&next, &device).reshape([batch * (seq - 1), 1]); // [batch * (seq - 1), 1]
    let counted = visible
        .iter()
        .flat_map(|row| row[..seq - 1].iter().map(|seen| f32::from(u8::from(*seen))))
        .collect::<Vec<_>>();
    let count = counted.iter().sum::<f32>();
    let counted = TensorData::new(counted, [batch * (seq - 1), 1]);
    let counted = Tensor::<2>::from_data(counted, (&device, DType::F32));

    let logits = logits.slice([0..batch, 0..seq - 1, 0..vocab]);
    let logits = logits.reshape([batch * (seq - 1), vocab]).cast(DType::F32); // [batch * (seq - 1), vocab_size]
    let likelihood = log_softmax(logits, 1).gather(1, targets); // [batch * (seq - 1), 1]
    (likelihood * counted).sum().neg() / count
}

/// Gathers the gradients of a module's parameters, under their paths.
struct Collected<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    /// The path of each parameter and its gradient: zeros when it took no part.
    blocks: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collected<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let data = match value.grad(self.gradients) {
            Some(gradient) => crate::backend::owned(gradient.into_data()),
            None => TensorData::zeros::<f32, _>(value.dims()),
        };
        self.blocks.push((self.path.join("."), data));
    }

    // Keys are without the name of an enum's variant.
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.extend((!container.starts_with("Enum:")).then(|| name.into()));
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.path.pop();
        }
    }
}

impl Collected<'_> {
    /// One output for each key of the checkpoint, the row blocks of a vocabulary put together.
    fn outputs(self, layers: usize) -> Vec<Output> {
        let mut outputs: Vec<Output> = Vec::new();
        for (path, data) in self.blocks {
            // `model.embed_tokens.weight.0` is the first block of `model.embed_tokens.weight`.
            let key = match path.rsplit_once('.') {
                Some((key, block)) if block.parse::<usize>().is_ok() => key,
                _ => &path,
            };
            let name = format!("{PREFIX}{key}");
            match outputs.last_mut().filter(|last| last.name == name) {
                Some(last) => last.data = below(&last.data, &data),
                None => outputs.push(Output { name, data }),
            }
        }
        outputs.sort_by_key(|output| rank(&output.name[PREFIX.len()..], layers));
        outputs
    }
}

/// The rows of `second` below those of `first`.
fn below(first: &TensorData, second: &TensorData) -> TensorData {
    let bytes = [first.as_bytes(), second.as_bytes()].concat();
    let mut shape = first.shape().clone();
    shape[0] += second.shape()[0];
    TensorData::from_bytes_vec(bytes, shape, first.dtype())
}

/// When the backward pass reaches the parameter `key`: the head first, the embedding last.
fn rank(key: &str, layers: usize) -> (usize, usize) {
    if key.starts_with("lm_head.") {
        return (0, 0);
    }
    let Some((layer, inside)) = key.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
    else {
        let last = key.starts_with("model.embed_tokens.");
        return (if last { layers + 2 } else { 1 }, 0);
    };
    let behind = layer.parse::<usize>().map_or(0, |layer| layers - layer);
    let place = BACKWARDS.iter().position(|name| inside.starts_with(name));
    (behind + 1, place.unwrap_or(BACKWARDS.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backward_pass_goes_from_the_head_to_the_embedding() {
        let mut keys = [
            "model.layers.0.mlp.down_proj.weight",
            "model.norm.weight",
            "model.embed_tokens.weight",
            "model.layers.1.self_attn.q_proj.bias",
            "lm_head.weight",
            "model.layers.0.input_layernorm.weight",
        ];
        keys.sort_by_key(|key| rank(key, 2));
        let expected = [
            "lm_head.weight",
            "model.norm.weight",
            "model.layers.1.self_attn.q_proj.bias",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.input_layernorm.weight",
            "model.embed_tokens.weight",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn row_blocks_are_put_together() {
        let first = TensorData::new(vec![1.0f32, 2.0], [1, 2]);
        let second = TensorData::new(vec![3.0f32, 4.0, 5.0, 6.0], [2, 2]);
        let whole = below(&first, &second);
        assert_eq!(whole.shape()[..], [3, 2]);
        let values = whole.iter::<f32>().collect::<Vec<_>>();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
