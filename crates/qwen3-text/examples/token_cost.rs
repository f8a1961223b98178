//! What choosing a token and turning it into text cost beside the model.
//!
//!     cargo run --release -p qwen3-text --example token_cost -- [FOLDER]
//!
//! Logits are as many as Qwen3's vocabulary has, random; the tokenizer is FOLDER's, or that of the small trained model
//! of this repository.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use qwen3_text::{Sampler, SamplingOptions, Tokenizer};

const VOCABULARY: u32 = 151_936;
const TOKENS: u32 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| tiny.into()));
    let recommended = SamplingOptions {
        greedy: false,
        temperature: 0.6,
        top_k: 20,
        top_p: 0.95,
        ..SamplingOptions::default()
    };
    let penalties = SamplingOptions { repetition_penalty: 1.1, presence_penalty: 1.5, ..recommended.clone() };
    for (name, options) in [
        ("greedy", SamplingOptions::default()),
        ("temperature 0.6, top-k 20, top-p 0.95", recommended.clone()),
        ("the same with penalties, 4,096 tokens before", penalties),
        ("temperature 0.6, top-p 0.95 of all tokens", SamplingOptions { top_k: 0, ..recommended }),
    ] {
        let mut sampler = Sampler::new(options)?;
        let context: Vec<u32> = (0..4096).map(|token| token * 37 % VOCABULARY).collect();
        let mut milliseconds = Vec::new();
        for token in 0..TOKENS {
            let mut logits: Vec<f32> = (0..VOCABULARY).map(|id| random(id ^ token << 18)).collect();
            let start = Instant::now();
            sampler.process(&mut logits, &context, &context)?;
            sampler.choose(&logits)?;
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name}: {:.3} ms", median(milliseconds));
    }
    let tokenizer = Tokenizer::open(&folder)?;
    let mut stream = tokenizer.stream(true);
    let ids = tokenizer.encode(&"What is 3 plus 4? Spell the word cat. ".repeat(200))?;
    let start = Instant::now();
    for id in &ids {
        stream.push(*id)?;
    }
    println!("text: {:.4} ms", start.elapsed().as_secs_f64() * 1e3 / ids.len() as f64);
    Ok(())
}

/// Noise that is about normal, with a deviation of 3.
fn random(seed: u32) -> f32 {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut sum = 0.0;
    for _ in 0..4 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sum += (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
    }
    sum * 5.2
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
