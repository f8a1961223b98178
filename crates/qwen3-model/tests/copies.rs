//! What a step of a session allocates: no weight and no cache is copied.
#![cfg(feature = "flex")]

use std::alloc::System;

use burn::tensor::{DType, Device};
use qwen3_model::{Kernel, Qwen3, Qwen3Config, RandomWeights, Session, SessionOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of the smallest projection in the half precisions.
const PROJECTION: usize = 2 * 128 * 1024;
/// Bytes of a layer's keys in the half precisions.
const KEYS: usize = 2 * 2 * 64 * 4096;

/// Bytes that the third step after a prompt of `prompt` tokens allocates, on all threads.
fn allocated(model: &Qwen3, prompt: usize) -> usize {
    let options = SessionOptions { capacity: 4096, ..SessionOptions::default() };
    let mut session = Session::new(model, options).unwrap();
    session.read_noise(prompt).unwrap();
    session.step(&[1]).unwrap();
    session.step(&[2]).unwrap();
    let region = Region::new(ALLOCATOR);
    session.step(&[3]).unwrap();
    region.change().bytes_allocated
}

/// One test, since other tests would allocate beside it.
#[test]
fn a_step_copies_neither_weights_nor_the_cache() {
    let config = r#"{"model_type": "qwen3", "vocab_size": 3000, "hidden_size": 1024, "intermediate_size": 1024,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "tie_word_embeddings": true, "rope_theta": 10000.0, "max_position_embeddings": 4096}"#;
    let config = Qwen3Config::from_json(config).unwrap();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let Ok(model) = Qwen3::build(&mut RandomWeights::new(1, &Device::flex(), dtype), &config);
        let short = allocated(&model, 16);
        assert!(short < PROJECTION, "{dtype:?}: a step allocates {short} bytes");
        let long = allocated(&model, 4000);
        assert!(long - short < KEYS / 4, "{dtype:?}: {long} bytes behind 4,000 tokens, {short} behind 16");
        // What is counted is there to be counted: Burn's own operations convert weights in bf16.
        if dtype == DType::BF16 {
            let composed = allocated(&model.with_kernel(Kernel::Reference), 16);
            assert!(composed > PROJECTION, "{dtype:?}: the composition allocates {composed} bytes");
        }
    }
}
