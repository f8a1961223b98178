//! What must hold for every architecture, prompt and split, on every pure-Rust backend.
#![cfg(any(feature = "ndarray", feature = "flex"))]

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use qwen3_model::{
    Kernel, Logits, Padding, Qwen3, Qwen3Config, RandomWeights, Session, SessionOptions, Taps,
};

const CASES: u32 = 1000;

/// The pure-Rust backends: most cases on flex, the faster one by far.
fn device() -> impl Strategy<Value = Device> {
    prop::strategy::Union::new_weighted(vec![
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        (1, Just(Device::ndarray())),
        #[cfg(feature = "flex")]
        (15, Just(Device::flex())),
    ])
}

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() }
}

prop_compose! {
    /// Any small architecture: grouped or plain heads, a head_dim unrelated to hidden_size, windows in any layers,
    /// scaled frequencies, experts.
    fn architecture()(
        kv_heads in 1..3_usize,
        groups in 1..4_usize,
        half_head in 1..5_usize,
        layers in 1..4_usize,
        hidden in 3..20_usize,
        intermediate in 1..24_usize,
        vocab in 2..40_usize,
        bias: bool,
        tied: bool,
        window in 0..12_usize,
        sliding: [bool; 3],
        experts in 0..5_usize,
        per_token in 1..4_usize,
        normalised: bool,
        scaling in prop::sample::select(vec![
            "null",
            r#"{"rope_type": "linear", "factor": 3.0}"#,
            r#"{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 40}"#,
        ]),
        seed: u64,
    ) -> (Qwen3Config, u64) {
        let kind = |sliding: &bool| if *sliding && window > 0 { "sliding_attention" } else { "full_attention" };
        // With experts, all layers have windows or none; of several layers every second one has experts.
        let sparse = experts > 0;
        let types: Vec<_> = sliding[..layers].iter().map(|own| kind(if sparse { &sliding[0] } else { own })).collect();
        let model_type = if sparse { "qwen3_moe" } else { "qwen3" };
        let of_experts = format!(
            r#""num_experts": {experts}, "num_experts_per_tok": {per_token}, "moe_intermediate_size": {intermediate},
               "norm_topk_prob": {normalised}, "decoder_sparse_step": {step},"#,
            per_token = per_token.min(experts),
            step = layers.min(2),
        );
        let of_experts = if sparse { &of_experts[..] } else { "" };
        let json = format!(
            r#"{{"model_type": "{model_type}", {of_experts} "vocab_size": {vocab}, "hidden_size": {hidden},
                "intermediate_size": {intermediate}, "num_hidden_layers": {layers},
                "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads},
                "head_dim": {head_dim}, "attention_bias": {bias}, "tie_word_embeddings": {tied},
                "rope_theta": 100.0, "max_position_embeddings": 300, "rope_scaling": {scaling},
                "use_sliding_window": {slides}, "sliding_window": {tokens}, "layer_types": {types:?}}}"#,
            heads = kv_heads * groups,
            head_dim = 2 * half_head,
            slides = window > 0 && (!sparse || sliding[0]),
            tokens = window.max(1),
        );
        (Qwen3Config::from_json(&json).unwrap(), seed)
    }
}

fn tokens(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), length)
}

/// The same ids, inside the vocabulary.
fn fit(config: &Qwen3Config, ids: &[u32]) -> Vec<u32> {
    ids.iter().map(|id| id % config.vocab_size as u32).collect()
}

fn build(config: &Qwen3Config, seed: u64, device: &Device) -> Qwen3 {
    let mut source = RandomWeights::new(seed, device, DType::F32);
    match Qwen3::build(&mut source, config) {
        Ok(model) => model,
        Err(never) => match never {},
    }
}

fn session(model: &Qwen3, batch: usize, capacity: usize, chunk_size: usize) -> Session {
    let options = SessionOptions { batch, capacity, chunk_size };
    Session::new(model, options).unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Logits of every position, without a cache.
fn uncached(model: &Qwen3, ids: &[u32]) -> Vec<f32> {
    let ids = ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>();
    let shape = [1, ids.len()];
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &model.device());
    values(model.forward(ids))
}

/// Equal up to f32 rounding in sums taken in another order.
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= 2e-5 * scale;
        assert!(close, "element {index}: {found} instead of {expected} (scale {scale})");
    }
}

proptest! {
    #![proptest_config(config())]

    /// One token at a time through the cache gives the logits of one pass over everything.
    #[test]
    fn cached_equals_uncached((config, seed) in architecture(), ids in tokens(2..80), device in device()) {
        let model = build(&config, seed, &device);
        let ids = fit(&config, &ids);
        let mut session = session(&model, 1, ids.len(), 16);
        let mut found = values(session.prefill(&[&ids[..1]]).unwrap());
        for id in &ids[1..] {
            found.extend(values(session.step(&[*id]).unwrap()));
        }
        assert_close(&found, &uncached(&model, &ids));
        prop_assert_eq!(session.positions(), &[ids.len()]);
    }

    /// The size of the chunks changes nothing, nor does a second prefill in the place of one.
    #[test]
    fn chunked_equals_whole(
        (config, seed) in architecture(),
        ids in tokens(2..140),
        chunk in 1..70_usize,
        cut in any::<prop::sample::Index>(),
        device in device(),
    ) {
        let model = build(&config, seed, &device);
        let ids = fit(&config, &ids);
        let whole = session(&model, 1, 200, 200)
            .prefill_with(&[&ids], Logits::All, &mut Taps::none())
            .unwrap();
        let chunked = session(&model, 1, 200, chunk)
            .prefill_with(&[&ids], Logits::All, &mut Taps::none())
            .unwrap();
        let whole = values(whole);
        assert_close(&values(chunked), &whole);

        let cut = 1 + cut.index(ids.len() - 1);
        let mut twice = session(&model, 1, 200, chunk);
        twice.prefill(&[&ids[..cut]]).unwrap();
        let last = values(twice.prefill(&[&ids[cut..]]).unwrap());
        assert_close(&last, &whole[whole.len() - config.vocab_size..]);
    }

    /// Every row of a left-padded batch decodes as it does alone, also after a second unequal prefill.
    #[test]
    fn padded_row_equals_single(
        (config, seed) in architecture(),
        prompts in prop::collection::vec(tokens(1..20), 1..4),
        more in tokens(1..12),
        chunk in 1..12_usize,
        device in device(),
    ) {
        let model = build(&config, seed, &device);
        let batch = prompts.len();
        let first = prompts.iter().map(|ids| fit(&config, ids)).collect::<Vec<_>>();
        // Row `i` gets `1 + i` tokens less than the longest possible second turn, if it may.
        let even = config.windows.window().is_some();
        let length = |row: usize| if even { more.len() } else { more.len().saturating_sub(row).max(1) };
        let second =
            (0..batch).map(|row| fit(&config, &more[..length(row)])).collect::<Vec<_>>();
        let last = vec![0; batch];

        let run = |rows: std::ops::Range<usize>| {
            let mut session = session(&model, rows.len(), 64, chunk);
            let mut logits = values(session.prefill(&first[rows.clone()]).unwrap());
            logits.extend(values(session.prefill(&second[rows.clone()]).unwrap()));
            logits.extend(values(session.step(&last[rows]).unwrap()));
            logits
        };
        let together = run(0..batch);
        let vocab = config.vocab_size;
        for row in 0..batch {
            let alone = run(row..row + 1);
            for turn in 0..3 {
                let start = (turn * batch + row) * vocab;
                assert_close(
                    &together[start..start + vocab],
                    &alone[turn * vocab..(turn + 1) * vocab],
                );
            }
        }
    }

    /// What a text's last token is encoded to is the same alone and padded on either side, in chunks of any size, and
    /// whether there is a head or not.
    #[test]
    fn an_encoded_text_does_not_depend_on_its_company(
        (config, seed) in architecture(),
        texts in prop::collection::vec(tokens(1..20), 1..4),
        chunk in 1..24_usize,
        device in device(),
    ) {
        let model = build(&config, seed, &device);
        let headless = Qwen3 { lm_head: None, ..model.clone() };
        let texts = texts.iter().map(|ids| fit(&config, ids)).collect::<Vec<_>>();
        let alone: Vec<f32> = texts.iter().flat_map(|ids| {
            let shape = [1, ids.len()];
            let rows = ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>();
            let rows = Tensor::<2, Int>::from_data(TensorData::new(rows, shape), &device);
            let hidden = values(model.encode(rows));
            hidden[hidden.len() - config.hidden_size..].to_vec()
        }).collect();
        for padding in [Padding::Left, Padding::Right] {
            let mut session = session(&headless, texts.len(), 30, chunk);
            assert_close(&values(session.encode(&texts, padding).unwrap()), &alone);
            prop_assert_eq!(session.used(), 0);
        }
    }

    /// Changing a token leaves every earlier position as it was, and does change its own.
    #[test]
    fn the_future_cannot_change_the_past(
        (config, seed) in architecture(),
        ids in tokens(2..40),
        place in any::<prop::sample::Index>(),
        device in device(),
    ) {
        let model = build(&config, seed, &device);
        let mut ids = fit(&config, &ids);
        let place = place.index(ids.len());
        let before = uncached(&model, &ids);
        ids[place] = (ids[place] + 1) % config.vocab_size as u32;
        let after = uncached(&model, &ids);
        let past = place * config.vocab_size;
        assert_close(&after[..past], &before[..past]);
        let own = past..past + config.vocab_size;
        prop_assert_ne!(&after[own.clone()], &before[own]);
    }

    /// Kernels give what compositions give, with padding before and between tokens.
    #[cfg(feature = "flex")]
    #[test]
    fn kernels_change_nothing(
        (config, seed) in architecture(),
        turns in [[tokens(1..9), tokens(1..9)], [tokens(1..9), tokens(1..9)]],
        chunk_size in 1..12_usize,
    ) {
        let model = build(&config, seed, &Device::flex());
        let run = |kernel| {
            let mut session = session(&model.clone().with_kernel(kernel), 2, 40, chunk_size);
            let mut found = Vec::new();
            for (index, turn) in turns.iter().enumerate() {
                let mut prompts = [fit(&config, &turn[0]), fit(&config, &turn[1])];
                if index > 0 && config.windows.window().is_some() {
                    // Padding between tokens is refused there.
                    let shorter = prompts[0].len().min(prompts[1].len());
                    prompts.iter_mut().for_each(|prompt| prompt.truncate(shorter));
                }
                let longest = prompts[0].len().max(prompts[1].len());
                let logits = session.prefill_with(&prompts, Logits::All, &mut Taps::none()).unwrap();
                // Nobody looks at what stands where padding is.
                for (row, prompt) in prompts.iter().enumerate() {
                    let tokens = longest - prompt.len()..longest;
                    found.push(logits.clone().slice([row..row + 1, tokens, 0..config.vocab_size]));
                }
            }
            found.push(session.step(&[0, 1]).unwrap().unsqueeze());
            found.into_iter().flat_map(values).collect::<Vec<_>>()
        };
        assert_close(&run(Kernel::Fast), &run(Kernel::Reference));
    }
}
