//! Generation with the small trained model, against Transformers' greedy texts.
#![cfg(feature = "flex")]

mod common;

use std::path::PathBuf;
use std::sync::LazyLock;

use burn::tensor::{DType, Device};
use qwen3_model::{Qwen3, Session, SessionOptions};
use qwen3_text::{
    Cancel, Event, FinishReason, GenerateError, GenerateOptions, Generation, GenerationConfig, Tokenizer,
};
use serde::Deserialize;

const NEW_TOKENS: usize = 64;

#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    prompt_ids: Vec<u32>,
    generated_ids: Vec<u32>,
    text: String,
    stopped_ids: Vec<u32>,
    stopped_text: String,
    finish_reason: String,
}

struct Tiny {
    model: Qwen3,
    tokenizer: Tokenizer,
    config: GenerationConfig,
    texts: Vec<Greedy>,
}

static TINY: LazyLock<Tiny> = LazyLock::new(|| {
    let folder: PathBuf = common::root().join("fixtures/checkpoints/trained-tiny");
    let texts = std::fs::read({
        let manifest = common::Manifest::open();
        manifest.file(manifest.fixture("generation"), "file")
    })
    .unwrap();
    Tiny {
        model: qwen3_import::load(&folder, &Device::flex(), DType::F32).unwrap(),
        tokenizer: Tokenizer::open(&folder).unwrap(),
        config: GenerationConfig::open(&folder).unwrap(),
        texts: serde_json::from_slice(&texts).unwrap(),
    }
});

fn options() -> GenerateOptions {
    GenerateOptions { max_new_tokens: NEW_TOKENS, skip_special: false, ..GenerateOptions::default() }
}

/// The same, ended where the checkpoint's config says, with special tokens left out of the text.
fn ending() -> GenerateOptions {
    GenerateOptions { stop_tokens: TINY.config.eos_token_ids.clone(), skip_special: true, ..options() }
}

/// Tokens and text of a text that ends, the token that ends it included.
fn check_ended(ids: &[u32], text: &str, reason: &str, expected: &Greedy) {
    let (kept, end) = ids.split_at(expected.stopped_ids.len());
    assert_eq!(kept, expected.stopped_ids, "{}", expected.prompt);
    assert_eq!(end.len(), usize::from(reason == "stop"));
    assert!(end.iter().all(|id| TINY.config.eos_token_ids.contains(id)));
    assert_eq!(text, TINY.tokenizer.decode(kept, true).unwrap());
    let whole = TINY.tokenizer.decode(kept, false).unwrap();
    assert_eq!(whole, expected.stopped_text);
    assert_eq!(reason, expected.finish_reason);
}

fn generation(prompts: &[&Vec<u32>], options: &GenerateOptions) -> Generation<'static> {
    Generation::new(&TINY.model, &TINY.tokenizer, prompts, options).unwrap()
}

fn prompts() -> Vec<&'static Vec<u32>> {
    TINY.texts.iter().map(|text| &text.prompt_ids).collect()
}

#[test]
fn greedy_texts_are_transformers_own() {
    assert_eq!(TINY.texts.len(), 50);
    for text in &TINY.texts {
        assert_eq!(TINY.tokenizer.encode(&text.prompt).unwrap(), text.prompt_ids);
        let found = generation(&[&text.prompt_ids], &options()).finish().unwrap();
        assert_eq!(found[0].generated_ids, text.generated_ids, "{}", text.prompt);
        assert_eq!(found[0].text, text.text);
        assert_eq!(found[0].reason, FinishReason::Length);
        assert_eq!(found[0].prompt_ids, text.prompt_ids);
    }
}

#[test]
fn a_batch_read_in_chunks_gives_the_same_and_ends_where_the_texts_end() {
    let options = GenerateOptions { chunk_size: 7, ..ending() };
    assert_eq!(options.stop_tokens.len(), 2);
    let found = generation(&prompts(), &options).finish().unwrap();
    assert_eq!(found.len(), TINY.texts.len());
    for (found, text) in found.iter().zip(&TINY.texts) {
        check_ended(&found.generated_ids, &found.text, found.reason.name(), text);
    }
    let stopped = found.iter().filter(|found| found.reason.name() == "stop");
    assert!(stopped.count() > 10);
}

#[test]
fn the_events_of_each_text_are_in_order() {
    let options = GenerateOptions { chunk_size: 16, ..ending() };
    let prompts = prompts();
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap();
    let mut read = 0;
    let mut texts = vec![(Vec::new(), String::new(), false, false); prompts.len()];
    for event in generation(&prompts, &options) {
        match event.unwrap() {
            Event::Prefill { read: now, total } => {
                assert_eq!((now, total), (longest.min(read + 16), longest));
                read = now;
            }
            Event::Token { row, id } => {
                assert!(!texts[row].3 && read == longest);
                texts[row].0.push(id);
            }
            Event::Text { row, text } => {
                assert!(!texts[row].3 && !text.is_empty());
                texts[row].1 += &text;
            }
            Event::ThinkingStarted { row } => {
                assert!(!std::mem::replace(&mut texts[row].2, true));
            }
            Event::ThinkingEnded { row } => {
                assert!(texts[row].1.ends_with("</think>"));
                texts[row].2 = false;
            }
            Event::Finished { row, timing, .. } => {
                assert!(!std::mem::replace(&mut texts[row].3, true));
                assert!(!timing.prefill.is_zero());
            }
        }
    }
    for ((ids, text, _, finished), expected) in texts.iter().zip(&TINY.texts) {
        assert!(finished);
        check_ended(ids, text, "stop", expected);
    }
}

#[test]
fn thinking_is_seen() {
    let think = TINY.tokenizer.id("<think>").unwrap();
    let thoughtful = TINY.texts.iter().find(|text| text.generated_ids.contains(&think));
    let prompt = &thoughtful.expect("a text with a thought").prompt_ids;
    let events = generation(&[prompt], &options()).collect::<Result<Vec<_>, _>>();
    let events = events.unwrap();
    let started = |event: &Event| matches!(event, Event::ThinkingStarted { row: 0 });
    let token = |event: &Event| *event == Event::Token { row: 0, id: think };
    let at = events.iter().position(token).unwrap();
    assert_eq!(events.iter().position(started), Some(at + 1));
    assert_eq!(events[at + 2], Event::Text { row: 0, text: "<think>".into() });
}

#[test]
fn stop_strings_end_a_text_and_are_left_out() {
    let text = TINY.texts.iter().max_by_key(|text| text.text.chars().count());
    let text = text.unwrap();
    let middle = text.text.char_indices().nth(text.text.chars().count() / 2);
    let stop = &text.text[middle.unwrap().0..];
    let stop: String = stop.chars().take(3).collect();
    let options =
        GenerateOptions { stop_strings: vec!["never to be found".into(), stop.clone()], ..options() };
    let found = generation(&[&text.prompt_ids], &options).finish().unwrap();
    let expected = text.text.split(&stop).next().unwrap();
    assert_eq!(found[0].text, expected);
    assert_eq!(found[0].reason, FinishReason::StopString(stop));
    assert!(found[0].generated_ids.len() < NEW_TOKENS);
    // What might have become a stop string when the text ended is text.
    let last = text.text.chars().last().unwrap();
    let options = GenerateOptions { stop_strings: vec![format!("{last}\0")], ..options };
    let found = generation(&[&text.prompt_ids], &options).finish().unwrap();
    assert_eq!(found[0].text, text.text);
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let mut options = options();
    options.sampling = TINY.config.sampling_options();
    options.sampling.greedy = false;
    options.sampling.temperature = 1.5;
    options.sampling.top_p = 1.0;
    options.sampling.top_k = 0;
    options.sampling.seed = 11;
    let prompt = &TINY.texts[0].prompt_ids;
    let run = |options: &GenerateOptions, prompts: &[&Vec<u32>]| {
        let found = generation(prompts, options).finish().unwrap();
        let ids = found.into_iter().map(|found| found.generated_ids);
        ids.collect::<Vec<_>>()
    };
    let alone = run(&options, &[prompt]);
    assert_eq!(alone, run(&options, &[prompt]));
    let batch = run(&options, &[prompt, prompt]);
    assert_eq!(batch[0], alone[0]);
    assert_ne!(batch[1], alone[0]);
    options.sampling.seed = 12;
    assert_eq!(run(&options, &[prompt])[0], batch[1]);
}

#[test]
fn cancelling_ends_every_text() {
    let cancel = Cancel::default();
    let prompts = &prompts()[..3];
    let mut generation = generation(prompts, &options()).with_cancel(cancel.clone());
    let mut tokens = 0;
    let mut finished = Vec::new();
    for event in generation.by_ref() {
        match event.unwrap() {
            Event::Token { .. } => {
                tokens += 1;
                if tokens == 6 {
                    cancel.cancel();
                }
            }
            Event::Finished { reason, .. } => finished.push(reason),
            _ => {}
        }
    }
    assert_eq!(tokens, 6);
    assert_eq!(finished, vec![FinishReason::Cancelled; 3]);
    assert!(generation.next().is_none());

    cancel.reset();
    let early = self::generation(prompts, &options()).with_cancel(cancel.clone());
    cancel.cancel();
    let events = early.collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(events.len(), 3);
}

#[test]
fn a_session_goes_on_where_it_was() {
    let text = &TINY.texts[0];
    let (first, rest) = text.prompt_ids.split_at(2);
    let options_of =
        SessionOptions { batch: 1, capacity: text.prompt_ids.len() + 2 * NEW_TOKENS, chunk_size: 5 };
    let mut session = Session::new(&TINY.model, options_of).unwrap();
    session.prefill(&[[first, &[1, 2, 3]].concat()]).unwrap();
    session.truncate(first.len());
    let generation = Generation::in_session(session, &TINY.tokenizer, first, &[rest], &options()).unwrap();
    let found = generation.finish().unwrap();
    assert_eq!(found[0].generated_ids, text.generated_ids);
    assert_eq!(found[0].prompt_ids, text.prompt_ids);
}

/// More tokens than a session has slots for at first: the cache grows on the way.
#[test]
fn a_long_text_grows_its_session() {
    let options = GenerateOptions { max_new_tokens: 700, ..options() };
    let prompts = &prompts()[..2];
    let found = generation(prompts, &options).finish().unwrap();
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap();
    let whole = SessionOptions { batch: 2, capacity: longest + 700, chunk_size: 256 };
    let session = Session::new(&TINY.model, whole).unwrap();
    let expected = Generation::in_session(session, &TINY.tokenizer, &[], prompts, &options);
    let expected = expected.unwrap().finish().unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.generated_ids.len(), 700);
        assert_eq!(found.generated_ids, expected.generated_ids);
    }
    let options = GenerateOptions { max_new_tokens: 520, ..options };
    let mut grown = generation(&prompts[..1], &options);
    assert!(grown.by_ref().all(|event| event.is_ok()));
    let slots = grown.into_session().capacity();
    assert_eq!(slots, prompts[0].len() + 520, "no more than the text needs");
}

#[test]
fn a_length_counts_the_prompt() {
    let prompt = &TINY.texts[0].prompt_ids;
    let options = GenerateOptions { max_length: Some(prompt.len() + 3), ..options() };
    let found = generation(&[prompt], &options).finish().unwrap();
    assert_eq!(found[0].generated_ids.len(), 3);
    let none = GenerateOptions { max_length: Some(1), ..options };
    let found = generation(&[prompt], &none).finish().unwrap();
    assert_eq!((found[0].generated_ids.len(), found[0].reason.name()), (0, "length"));
}

#[test]
fn the_models_positions_end_a_text() {
    let positions = TINY.model.config.max_position_embeddings;
    let prompt = vec![5; positions - 2];
    let options = GenerateOptions { max_new_tokens: usize::MAX, ..options() };
    let found = generation(&[&prompt], &options).finish().unwrap();
    assert_eq!(found[0].generated_ids.len(), 3);
    assert_eq!(found[0].reason, FinishReason::Length);

    let long = vec![5; positions + 1];
    let error = Generation::new(&TINY.model, &TINY.tokenizer, &[&long], &options).err();
    assert!(matches!(error, Some(GenerateError::PromptTooLong { row: 0, .. })));
}

#[test]
fn bad_prompts_and_options_are_refused() {
    let refused = |prompts: &[Vec<u32>], options: &GenerateOptions| {
        Generation::new(&TINY.model, &TINY.tokenizer, prompts, options).err().expect("an error")
    };
    let none: [Vec<u32>; 0] = [];
    assert!(matches!(refused(&none, &options()), GenerateError::NoPrompt));
    let empty = refused(&[vec![1], vec![]], &options());
    assert!(empty.to_string().contains("prompt 1 is empty"), "{empty}");
    let unknown = refused(&[vec![100_000]], &options());
    assert!(unknown.to_string().contains("100000"), "{unknown}");
    let mut wrong = options();
    wrong.sampling.top_p = 2.0;
    let wrong = refused(&[vec![1]], &wrong);
    assert!(wrong.to_string().contains("top_p"), "{wrong}");
}
