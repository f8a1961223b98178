//! The committed fixtures about text, made by Transformers.

mod common;

use std::fs;

use common::{Arrays, Manifest, assets, numbers};
use qwen3_text::{ChatTemplate, Conversation, RenderOptions, Sampler, SamplingOptions, Tokenizer};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Talk {
    id: String,
    // As text: this crate's own reader keeps the order of keys.
    messages: Box<RawValue>,
    tools: Box<RawValue>,
    enable_thinking: Option<bool>,
    add_generation_prompt: bool,
    rendered: String,
    ids: Vec<u32>,
}

fn talks(manifest: &Manifest) -> Vec<Talk> {
    let file = manifest.file(manifest.fixture("chat_template"), "file");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn render(template: &ChatTemplate, talk: &Talk) -> String {
    let json = format!("{{\"messages\": {}, \"tools\": {}}}", talk.messages, talk.tools);
    let conversation = Conversation::from_json(&json, &talk.id).unwrap();
    let options = RenderOptions {
        enable_thinking: talk.enable_thinking,
        add_generation_prompt: talk.add_generation_prompt,
        ..RenderOptions::default()
    };
    template.render_conversation(&conversation, &options).unwrap()
}

#[test]
fn every_conversation_becomes_its_prompt() {
    let manifest = Manifest::open();
    let checkpoint = manifest.checkpoint(manifest.fixture("chat_template"));
    let template = ChatTemplate::open(&checkpoint).unwrap();
    let tokenizer = Tokenizer::open(&checkpoint).unwrap();
    let talks = talks(&manifest);
    assert!(!talks.is_empty());
    for talk in &talks {
        let prompt = render(&template, talk);
        assert_eq!(prompt, talk.rendered, "{}", talk.id);
        assert_eq!(tokenizer.encode(&prompt).unwrap(), talk.ids, "{}", talk.id);
    }
}

#[test]
fn the_official_template_writes_the_same() {
    let Some(assets) = assets("the_official_template_writes_the_same") else {
        return;
    };
    let template = ChatTemplate::open(assets.join("Qwen3-0.6B")).unwrap();
    for talk in talks(&Manifest::open()) {
        assert_eq!(render(&template, &talk), talk.rendered, "{}", talk.id);
    }
}

#[test]
fn every_string_becomes_its_tokens_and_back() {
    let manifest = Manifest::open();
    let entry = manifest.fixture("tokenizer");
    let tokenizer = Tokenizer::open(manifest.checkpoint(entry)).unwrap();
    let mut arrays = Arrays::open(&manifest.file(entry, "file"));
    let (texts, ids) = (arrays.texts("text"), arrays.parts::<u16>("ids"));
    let (decoded, skipping) = (arrays.texts("decoded"), arrays.texts("decoded_skipping"));
    assert!(!texts.is_empty());
    for (at, text) in texts.iter().enumerate() {
        let expected: Vec<u32> = ids[at].iter().map(|&id| id.into()).collect();
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "string {at}: {text:?}");
        for (skip, whole) in [(false, &decoded[at]), (true, &skipping[at])] {
            assert_eq!(&tokenizer.decode(&expected, skip).unwrap(), whole, "string {at}");
            let mut stream = tokenizer.stream(skip);
            let mut text: String = expected.iter().map(|&id| stream.push(id).unwrap()).collect();
            text += &stream.finish().unwrap();
            assert_eq!(&text, whole, "string {at} in pieces");
        }
    }
}

/// Long texts are encoded in pieces.
#[test]
fn long_texts_have_the_tokens_of_the_whole() {
    let manifest = Manifest::open();
    let entry = manifest.fixture("tokenizer");
    let checkpoint = manifest.checkpoint(entry);
    let tokenizer = Tokenizer::open(&checkpoint).unwrap();
    let library = tokenizers::Tokenizer::from_file(checkpoint.join("tokenizer.json")).unwrap();
    let texts = Arrays::open(&manifest.file(entry, "file")).texts("text");
    for between in ["", " ", "\n", "\r\n", "。"] {
        let mut text = texts.join(between);
        while text.len() < 300_000 {
            text = text.clone() + between + &text;
        }
        let whole = library.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(tokenizer.encode(&text).unwrap(), whole.get_ids(), "between {between:?}");
    }
}

#[test]
fn the_official_tokenizer_agrees_with_its_digests() {
    let Some(assets) = assets("the_official_tokenizer_agrees_with_its_digests") else {
        return;
    };
    let tokenizer = Tokenizer::open(assets.join("Qwen3-0.6B")).unwrap();
    let manifest = Manifest::open();
    let mut arrays = Arrays::open(&manifest.file(manifest.fixture("tokenizer"), "file"));
    let (_, digests) = arrays.get::<u64>("official_digest");
    for (text, expected) in arrays.texts("text").iter().zip(digests) {
        let mut hash = Sha256::new();
        for id in tokenizer.encode(text).unwrap() {
            hash.update(id.to_le_bytes());
        }
        let digest = u64::from_le_bytes(hash.finalize()[..8].try_into().unwrap());
        assert_eq!(digest, expected, "{text:?}");
    }
}

#[test]
fn logits_are_processed_as_by_generate() {
    let manifest = Manifest::open();
    let entry = manifest.fixture("logits_processors");
    let mut arrays = Arrays::open(&manifest.file(entry, "file"));
    let parameters = fs::read_to_string(manifest.file(entry, "parameters")).unwrap();
    let parameters: Vec<serde_json::Value> = serde_json::from_str(&parameters).unwrap();
    let (shape, logits) = arrays.get::<f32>("logits");
    let (_, scores) = arrays.get::<f32>("scores");
    let (previous_shape, previous) = arrays.get::<i64>("previous_ids");
    assert_eq!(shape[0] as usize, parameters.len());
    let (vocab_size, previous_len) = (shape[1] as usize, previous_shape[1] as usize);
    for (row, entry) in parameters.iter().enumerate() {
        let given = numbers(entry);
        let given = |name: &str| given.get(name).copied();
        let sampler = Sampler::new(SamplingOptions {
            greedy: false,
            temperature: given("temperature").unwrap_or(1.0),
            top_k: given("top_k").unwrap_or(0.0) as usize,
            top_p: given("top_p").unwrap_or(1.0),
            min_p: given("min_p"),
            repetition_penalty: given("repetition_penalty").unwrap_or(1.0),
            presence_penalty: given("presence_penalty").unwrap_or(0.0),
            seed: 0,
        });
        let ids = previous[row * previous_len..][..previous_len].iter();
        let ids: Vec<u32> = ids.map(|&id| u32::try_from(id).unwrap()).collect();
        let generated = &ids[given("prompt_length").unwrap() as usize..];
        let mut found = logits[row * vocab_size..][..vocab_size].to_vec();
        sampler.unwrap().process(&mut found, &ids, generated).unwrap();
        for (id, (found, expected)) in found.iter().zip(&scores[row * vocab_size..]).enumerate() {
            assert_eq!(found, expected, "token {id} of {entry}");
        }
    }
}
