//! A Burn training loop with a frozen Qwen3 as its encoder: a linear layer learns to tell questions from
//! other texts by what the last norm gives for them.
//!
//!     cargo run --release -p qwen3-text --features flex --example frozen_encoder

use std::error::Error;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use burn_nn::loss::CrossEntropyLossConfig;
use burn_nn::{Linear, LinearConfig};
use burn_optim::{AdamConfig, GradientsParams};
use qwen3_model::Qwen3;
use qwen3_text::Tokenizer;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
const TEXTS: [(&str, i32); 8] = [
    ("What is 3 plus 4?", 1),
    ("1 2 3 4 5 6", 0),
    ("What comes after Monday?", 1),
    ("a b c d e f g", 0),
    ("How do you spell tree?", 1),
    ("Monday Tuesday Wednesday", 0),
    ("What is 9 minus 5?", 1),
    ("ten nine eight seven", 0),
];

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    // No gradient is kept for what does not learn.
    let encoder = qwen3_import::load(TINY, &device, DType::F32)?.no_grad();
    let tokenizer = Tokenizer::open(TINY)?;

    let mut features = Vec::new();
    for (text, _) in TEXTS {
        features.push(encode(&encoder, &tokenizer.encode(text)?, &device));
    }
    let features = Tensor::cat(features, 0); // [texts, hidden_size]
    let labels = TEXTS.map(|(_, label)| label);
    let labels = Tensor::<1, Int>::from_ints(labels, &device);

    let mut head: Linear = LinearConfig::new(encoder.config.hidden_size, 2).init(&device);
    let mut optimizer = AdamConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&device);
    for step in 0..=40 {
        let loss = loss.forward(head.forward(features.clone()), labels.clone());
        if step % 10 == 0 {
            println!("step {step:2}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &head);
        head = optimizer.step(0.02, head, gradients);
    }
    Ok(())
}

/// The mean of the last norm's output over a text's tokens: `[1, hidden_size]`.
fn encode(encoder: &Qwen3, ids: &[u32], device: &Device) -> Tensor<2> {
    let ids = ids.iter().map(|id| *id as i32).collect::<Vec<_>>();
    let ids = Tensor::<1, Int>::from_ints(&ids[..], device).unsqueeze(); // [1, seq]
    encoder.encode(ids).mean_dim(1).squeeze_dim(1) // [1, hidden_size]
}
