//! What a session refuses, and that refusing leaves it as it was.
#![cfg(feature = "flex")]

use burn::tensor::{DType, Device, Tensor};
use qwen3_model::{
    Kernel, Logits, Observed, Padding, Qwen3, Qwen3Config, RandomWeights, Session, SessionError,
    SessionOptions, Site, Taps,
};

const CONFIG: &str = r#"{"model_type": "qwen3", "vocab_size": 11, "hidden_size": 8,
    "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 32, "rope_theta": 100}"#;

fn model() -> Qwen3 {
    let config = Qwen3Config::from_json(CONFIG).unwrap();
    let mut source = RandomWeights::new(1, &Device::flex(), DType::F32);
    Qwen3::build(&mut source, &config).unwrap()
}

fn options(batch: usize, capacity: usize) -> SessionOptions {
    SessionOptions { batch, capacity, chunk_size: 4 }
}

#[test]
fn a_full_cache_is_an_error_and_changes_nothing() {
    let mut session = Session::new(&model(), options(1, 5)).unwrap();
    session.prefill(&[[1, 2, 3]]).unwrap();
    let full = SessionError::CacheFull { used: 3, capacity: 5, needed: 3 };
    assert_eq!(session.prefill(&[[4, 5, 6]]).unwrap_err(), full);
    assert_eq!((session.used(), session.positions()), (3, &[3][..]));

    let found = session.prefill(&[[4, 5]]).unwrap().into_data();
    assert!(session.step(&[6]).is_err());
    let mut fresh = Session::new(&model(), options(1, 5)).unwrap();
    let expected = fresh.prefill(&[[1, 2, 3, 4, 5]]).unwrap().into_data();
    let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn bad_calls_name_what_is_wrong() {
    let model = model();
    let zero = Session::new(&model, options(0, 5)).unwrap_err();
    assert_eq!(zero, SessionError::ZeroOption { option: "batch" });
    let large = Session::new(&model, options(1, 33)).unwrap_err();
    let expected = SessionError::CapacityBeyondModel { capacity: 33, max: 32 };
    assert_eq!(large, expected);

    let mut session = Session::new(&model, options(2, 8)).unwrap();
    assert_eq!(session.step(&[1, 2]).unwrap_err(), SessionError::NotPrefilled);
    let rows = session.prefill(&[[1]]).unwrap_err();
    let expected = SessionError::BatchSize { expected: 2, found: 1 };
    assert_eq!(rows, expected);
    let empty = session.prefill(&[&[1][..], &[]]).unwrap_err();
    assert_eq!(empty, SessionError::EmptyPrompt { row: 1 });
    let unknown = session.prefill(&[[1], [11]]).unwrap_err();
    let expected = SessionError::UnknownToken { row: 1, id: 11, vocab_size: 11 };
    assert_eq!(unknown, expected);
    assert_eq!(session.used(), 0);
}

#[test]
fn taps_see_every_site_in_order_with_its_documented_shape() {
    let mut seen = Vec::new();
    let mut observe = |site: Site, value: Observed| {
        let shape = match value {
            Observed::Rank3(tensor) => tensor.dims().to_vec(),
            Observed::Rank4(tensor) => tensor.dims().to_vec(),
        };
        seen.push((site.to_string(), shape));
    };
    Session::new(&model(), options(2, 8))
        .unwrap()
        .prefill_with(&[[1, 2, 3], [4, 5, 6]], Logits::All, &mut Taps::new(&mut observe))
        .unwrap();
    let layer = |index: usize| {
        [
            (".input_layernorm", vec![2, 3, 8]),
            (".self_attn.q_proj", vec![2, 3, 24]),
            (".self_attn.k_proj", vec![2, 3, 12]),
            (".self_attn.v_proj", vec![2, 3, 12]),
            (".self_attn.q_norm", vec![2, 3, 4, 6]),
            (".self_attn.k_norm", vec![2, 3, 2, 6]),
            (".self_attn.q_rope", vec![2, 4, 3, 6]),
            (".self_attn.k_rope", vec![2, 2, 3, 6]),
            (".self_attn.context", vec![2, 3, 24]),
            (".self_attn.o_proj", vec![2, 3, 8]),
            (".post_attention_layernorm", vec![2, 3, 8]),
            (".mlp", vec![2, 3, 8]),
            ("_output", vec![2, 3, 8]),
        ]
        .map(|(name, shape)| (format!("layer_{index:02}{name}"), shape))
    };
    let mut expected = vec![("embedding_output".to_string(), vec![2, 3, 8])];
    expected.extend(layer(0));
    expected.extend(layer(1));
    expected.push(("final_norm_output".into(), vec![2, 3, 8]));
    expected.push(("logits".into(), vec![2, 3, 11]));
    assert_eq!(seen, expected);
}

#[test]
fn chunk_by_chunk_is_the_whole() {
    let prompts: [&[u32]; 2] = [&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[3, 1, 4]];
    let expected = Session::new(&model(), options(2, 16)).unwrap().prefill(&prompts);
    let expected = expected.unwrap().into_data();

    let mut session = Session::new(&model(), options(2, 16)).unwrap();
    let mut prefill = session.begin(&prompts).unwrap();
    let mut read = Vec::new();
    let logits = loop {
        let logits = session.read(&mut prefill).unwrap();
        read.push(prefill.read());
        assert_eq!(session.used(), prefill.read());
        if let Some(logits) = logits {
            break logits;
        }
    };
    assert_eq!((read, prefill.total()), (vec![4, 8, 9], 9));
    assert_eq!(logits.into_data(), expected);
    assert_eq!(session.positions(), [9, 3]);
    assert!(session.read(&mut prefill).unwrap().is_none());
}

#[test]
fn a_prefill_that_no_longer_fits_changes_nothing() {
    let mut session = Session::new(&model(), options(1, 6)).unwrap();
    let mut prefill = session.begin(&[[1, 2, 3, 4, 5]]).unwrap();
    session.prefill(&[[7, 8]]).unwrap();
    let error = session.read(&mut prefill).unwrap_err();
    let expected = SessionError::CacheFull { used: 2, capacity: 6, needed: 5 };
    assert_eq!((error, session.used(), prefill.read()), (expected, 2, 0));
}

#[test]
fn what_was_truncated_leaves_no_trace() {
    let mut session = Session::new(&model(), options(2, 16)).unwrap();
    session.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
    session.step(&[5, 6]).unwrap();
    session.prefill(&[[9, 9], [10, 10]]).unwrap();
    session.truncate(4);
    assert_eq!((session.used(), session.positions()), (4, &[4, 2][..]));
    let found = session.step(&[7, 8]).unwrap().into_data();

    let mut fresh = Session::new(&model(), options(2, 16)).unwrap();
    fresh.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
    fresh.step(&[5, 6]).unwrap();
    assert_eq!(found, fresh.step(&[7, 8]).unwrap().into_data());

    session.truncate(1);
    assert_eq!((session.used(), session.positions()), (1, &[1, 0][..]));
    session.truncate(100);
    assert_eq!(session.used(), 1);
    session.reset();
    assert_eq!((session.used(), session.positions()), (0, &[0, 0][..]));
}

#[test]
fn kernels_and_compositions_agree() {
    let read = |kernel| {
        let mut session = Session::new(&model().with_kernel(kernel), options(2, 16)).unwrap();
        let prompt = session.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
        let step = session.step(&[5, 6]).unwrap();
        [prompt, step].map(|logits| logits.into_data().iter::<f32>().collect::<Vec<_>>()).concat()
    };
    let (fast, reference) = (read(Kernel::Fast), read(Kernel::Reference));
    for (fast, reference) in fast.iter().zip(&reference) {
        assert!((fast - reference).abs() < 1e-4, "{fast}, {reference}");
    }
    // On flex the sums are in another order, and a kernel that is never used would go unnoticed.
    assert_ne!(fast, reference);
}

#[test]
fn noise_is_a_context_like_any_other() {
    let mut session = Session::new(&model(), options(2, 16)).unwrap();
    session.read_noise(5).unwrap();
    assert_eq!((session.used(), session.positions()), (5, &[5, 5][..]));
    let seen = session.step(&[7, 8]).unwrap().into_data();
    session.truncate(5);
    assert_eq!(seen, session.step(&[7, 8]).unwrap().into_data(), "the noise stays");
    let mut alone = Session::new(&model(), options(2, 16)).unwrap();
    alone.prefill(&[[7], [8]]).unwrap();
    assert_ne!(seen, alone.step(&[7, 8]).unwrap().into_data(), "it is seen");
    let error = session.read_noise(11).unwrap_err();
    assert_eq!(error, SessionError::CacheFull { used: 6, capacity: 16, needed: 11 });
    assert_eq!(session.used(), 6);
}

#[test]
fn a_session_that_grows_keeps_what_it_has_read() {
    let mut session = Session::new(&model(), options(2, 4)).unwrap();
    session.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
    session.grow(3).unwrap();
    assert_eq!(session.capacity(), 4);
    session.grow(9).unwrap();
    assert_eq!(session.capacity(), 9);
    let found = session.prefill(&[[5, 6, 7, 8], [8, 7, 6, 5]]).unwrap();
    let mut fresh = Session::new(&model(), options(2, 9)).unwrap();
    fresh.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
    let expected = fresh.prefill(&[[5, 6, 7, 8], [8, 7, 6, 5]]).unwrap();
    assert_eq!(found.into_data(), expected.into_data());
    let beyond = session.grow(33).unwrap_err();
    let expected = SessionError::CapacityBeyondModel { capacity: 33, max: 32 };
    assert_eq!(beyond, expected);
}

/// Windows of 5 tokens in all layers but the first.
fn windowed() -> Qwen3 {
    let mut source = RandomWeights::new(3, &Device::flex(), DType::F32);
    Qwen3::build(&mut source, &Qwen3Config::tiny_windows()).unwrap()
}

fn ids(count: u32, first: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 37 + first) % 256).collect()
}

fn close(found: Tensor<2>, expected: Tensor<2>) {
    let difference: f32 = (found - expected).abs().max().into_scalar();
    assert!(difference < 1e-4, "{difference}");
}

/// Rows of unequal length, in chunks that the windows cross: each is as when it is alone, in one chunk.
#[test]
fn windows_see_what_they_should_in_a_cache_that_forgets() {
    for kernel in [Kernel::Fast, Kernel::Reference] {
        let model = windowed().with_kernel(kernel);
        let rows = [ids(23, 1), ids(30, 2), ids(3, 3)];
        let options = SessionOptions { batch: 3, capacity: 64, chunk_size: 4 };
        let mut together = Session::new(&model, options).unwrap();
        let read = together.prefill(&rows).unwrap();
        let steps: Vec<_> = (0..9).map(|step| together.step(&[step, step + 1, step + 2]).unwrap()).collect();
        for (row, ids) in rows.iter().enumerate() {
            let options = SessionOptions { batch: 1, capacity: 64, chunk_size: 64 };
            let mut alone = Session::new(&model, options).unwrap();
            let of = |logits: &Tensor<2>| logits.clone().slice(burn::tensor::s![row..row + 1, ..]);
            close(of(&read), alone.prefill(&[ids]).unwrap());
            for (step, logits) in steps.iter().enumerate() {
                close(of(logits), alone.step(&[step as u32 + row as u32]).unwrap());
            }
        }
    }
}

#[test]
fn what_windows_have_forgotten_has_to_be_read_again() {
    let model = windowed();
    let options = SessionOptions { batch: 1, capacity: 64, chunk_size: 4 };
    let mut session = Session::new(&model, options).unwrap();
    let ids = ids(30, 5);
    session.prefill(&[&ids]).unwrap();
    let whole = session.step(&[9]).unwrap();
    // What the last tokens see is there; what earlier ones saw is not.
    assert_eq!(session.truncate(30), 30);
    close(session.step(&[9]).unwrap(), whole.clone());
    assert_eq!(session.truncate(12), 0);
    assert_eq!((session.used(), session.positions()), (0, &[0][..]));
    session.prefill(&[&ids]).unwrap();
    close(session.step(&[9]).unwrap(), whole);
    session.reset();
    assert_eq!(session.truncate(3), 0);
    // As long as nothing was forgotten, any turn can be gone back to.
    session.prefill(&[&ids[..6]]).unwrap();
    assert_eq!(session.truncate(2), 2);
}

#[test]
fn padding_between_tokens_would_count_in_windows() {
    let options = SessionOptions { batch: 2, capacity: 64, chunk_size: 4 };
    let mut session = Session::new(&windowed(), options).unwrap();
    session.prefill(&[&[1, 2, 3][..], &[4]]).unwrap();
    let uneven = session.prefill(&[&[5, 6][..], &[7]]).unwrap_err();
    assert_eq!(uneven, SessionError::PaddingInWindows { row: 1, tokens: 1, longest: 2 });
    assert_eq!(session.used(), 3);
    session.prefill(&[[5, 6], [7, 8]]).unwrap();
}

/// An untied model without a matrix of its own has no head, and is not given the embedding for one.
#[test]
fn a_session_without_a_head_encodes_and_refuses_logits() {
    let headless = Qwen3 { lm_head: None, ..model() };
    assert!(headless.head().is_none() && model().head().is_some());
    let mut session = Session::new(&headless, options(1, 5)).unwrap();
    assert_eq!(session.prefill(&[[1]]).unwrap_err(), SessionError::NoHead);
    let all = session.prefill_with(&[[1]], Logits::All, &mut Taps::none());
    assert_eq!(all.unwrap_err(), SessionError::NoHead);
    let mut prefill = session.begin(&[[1, 2]]).unwrap();
    assert_eq!(session.read(&mut prefill).unwrap_err(), SessionError::NoHead);
    assert_eq!((session.used(), prefill.read()), (0, 0));
    assert_eq!(session.encode(&[[1, 2]], Padding::Right).unwrap().dims(), [1, 8]);
}

/// What is encoded takes the place of what was read, unless it is refused.
#[test]
fn encoding_forgets_what_was_read() {
    let model = model();
    let mut session = Session::new(&model, options(2, 5)).unwrap();
    session.prefill(&[[1, 2, 3], [4, 5, 6]]).unwrap();
    let long = session.encode(&[&[1, 2, 3, 4, 5, 6][..], &[1]], Padding::Left).unwrap_err();
    assert_eq!(long, SessionError::CacheFull { used: 0, capacity: 5, needed: 6 });
    let empty = session.encode(&[&[1][..], &[]], Padding::Right).unwrap_err();
    assert_eq!(empty, SessionError::EmptyPrompt { row: 1 });
    assert_eq!(
        session.encode(&[[1]], Padding::Left).unwrap_err(),
        SessionError::BatchSize { expected: 2, found: 1 }
    );
    assert_eq!(session.positions(), &[3, 3]);

    let after = session.encode(&[&[1, 2, 3, 4][..], &[5]], Padding::Right).unwrap().into_data();
    assert_eq!((session.used(), session.positions()), (0, &[0, 0][..]));
    let mut fresh = Session::new(&model, options(2, 5)).unwrap();
    let fresh = fresh.encode(&[&[1, 2, 3, 4][..], &[5]], Padding::Right).unwrap().into_data();
    assert_eq!(after, fresh);
}

/// A step shows the sites that a prompt shows, of its one token, and taps change nothing.
#[test]
fn taps_see_cached_steps() {
    let model = model();
    let mut session = Session::new(&model, options(1, 8)).unwrap();
    let (mut prompt, mut step) = (Vec::new(), Vec::new());
    let mut look = |site: Site, _: Observed| prompt.push(site);
    session.prefill_with(&[[1, 2, 3]], Logits::Last, &mut Taps::new(&mut look)).unwrap();
    let mut untapped = session.clone();
    let mut look = |site: Site, value: Observed| {
        let seq = match value {
            Observed::Rank3(tensor) => tensor.dims()[1],
            Observed::Rank4(tensor) => tensor.dims()[1].min(tensor.dims()[2]),
        };
        step.push((site, seq));
    };
    let logits = session.step_with(&[4], &mut Taps::new(&mut look)).unwrap();
    assert!(step.iter().all(|(_, seq)| *seq == 1));
    assert_eq!(step.into_iter().map(|(site, _)| site).collect::<Vec<_>>(), prompt);
    let plain = untapped.step(&[4]).unwrap();
    assert_eq!(logits.into_data(), plain.into_data());
}
