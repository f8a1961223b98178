//! Embedding and reranking against Transformers, on the small checkpoints of the fixtures.
#![cfg(feature = "flex")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use burn::tensor::{DType, Device};
use common::{Arrays, Manifest, assets, root};
use qwen3_import::Loader;
use qwen3_model::{Extent, Padding, Qwen3, SessionError};
use qwen3_text::{
    DEFAULT_INSTRUCT, EmbedOptions, Embedder, Embedding, RerankOptions, Reranked, Reranker, RetrievalError,
    Tokenizer, instructed, rerank_prompt,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Both sides of the padding, and batches of one, of some and of all.
const WAYS: [(Padding, usize); 4] =
    [(Padding::Left, 1), (Padding::Left, 1 << 20), (Padding::Right, 1 << 20), (Padding::Right, 300)];

#[derive(Deserialize)]
struct Texts {
    id: String,
    checkpoint: String,
    task: Option<String>,
    texts: Vec<String>,
    max_length: Option<usize>,
    dimensions: Option<usize>,
    read_as: Vec<String>,
    ids: Vec<Vec<u32>>,
    tolerance: HashMap<String, f64>,
}

#[derive(Deserialize)]
struct Documents {
    id: String,
    instruct: Option<String>,
    query: String,
    documents: Vec<String>,
    max_length: Option<usize>,
    prompts: Vec<String>,
    ids: Vec<Vec<u32>>,
    tolerance: HashMap<String, f64>,
}

/// The entries of the fixture of this kind, and their arrays.
fn fixture<T: DeserializeOwned>(kind: &str) -> (Vec<T>, Arrays) {
    let manifest = Manifest::open();
    let entry = manifest.fixture(kind);
    manifest.checkpoint(entry);
    let entries = fs::read_to_string(manifest.file(entry, "parameters")).unwrap();
    (serde_json::from_str(&entries).unwrap(), Arrays::open(&manifest.file(entry, "file")))
}

struct Checkpoint {
    model: Qwen3,
    tokenizer: Tokenizer,
}

fn folder(name: &str) -> PathBuf {
    root().join("fixtures/checkpoints").join(name)
}

/// A checkpoint, its head left where it is.
fn encoder(name: &str, dtype: DType) -> Checkpoint {
    let device = Device::flex();
    let model = Loader::new(&device, dtype).extent(Extent::Encoder).checkpoint(folder(name)).unwrap();
    Checkpoint { model, tokenizer: Tokenizer::open(folder(name)).unwrap() }
}

fn reranker() -> Checkpoint {
    let model = qwen3_import::load(folder(RERANKER), &Device::flex(), DType::F32).unwrap();
    Checkpoint { model, tokenizer: Tokenizer::open(folder(RERANKER)).unwrap() }
}

const EMBEDDER: &str = "embedding-headless";
const RERANKER: &str = "reranker-tied";

fn embed(
    Checkpoint { model, tokenizer }: &Checkpoint,
    options: EmbedOptions,
    texts: &[impl AsRef<str>],
) -> Result<Vec<Embedding>, RetrievalError> {
    Embedder::new(model, tokenizer, options)?.embed(texts)
}

fn rerank(
    Checkpoint { model, tokenizer }: &Checkpoint,
    options: RerankOptions,
    query: &str,
    documents: &[impl AsRef<str>],
) -> Result<Vec<Reranked>, RetrievalError> {
    Reranker::new(model, tokenizer, options)?.rerank(query, documents)
}

/// The largest distance of a value from the one expected.
fn error(found: impl IntoIterator<Item = f64>, expected: impl IntoIterator<Item = f64>) -> f64 {
    let (found, expected): (Vec<_>, Vec<_>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn values(found: &[Embedding]) -> impl Iterator<Item = f64> {
    found.iter().flat_map(|embedding| &embedding.vector).map(|value| f64::from(*value))
}

#[test]
fn every_text_has_the_vector_of_transformers() {
    let (cases, mut arrays) = fixture::<Texts>("embedding");
    for (dtype, name) in [(DType::F32, "f32"), (DType::F16, "f16"), (DType::BF16, "bf16")] {
        for case in &cases {
            let checkpoint = encoder(&case.checkpoint, dtype);
            let (shape, expected) = arrays.get::<f32>(&case.id);
            for (padding, batch_tokens) in WAYS {
                let options = EmbedOptions {
                    dimensions: case.dimensions,
                    max_length: case.max_length,
                    padding,
                    batch_tokens,
                    // More chunks than one for most texts.
                    chunk_size: 16,
                };
                let found = embed(&checkpoint, options, &case.read_as).unwrap();
                assert!(found.iter().all(|embedding| embedding.vector.len() as u64 == shape[1]));
                let lengths: Vec<_> = found.iter().map(|embedding| embedding.tokens).collect();
                assert_eq!(lengths, case.ids.iter().map(Vec::len).collect::<Vec<_>>(), "{}", case.id);
                let off = error(values(&found), expected.iter().map(|value| f64::from(*value)));
                let limit = case.tolerance[name];
                assert!(
                    off <= limit,
                    "{} in {name}, {padding:?} {batch_tokens}: {off:e} > {limit:e}",
                    case.id
                );
            }
        }
    }
}

#[test]
fn every_document_has_the_score_of_transformers() {
    let (cases, mut arrays) = fixture::<Documents>("reranking");
    let checkpoint = reranker();
    for case in &cases {
        let (_, expected) = arrays.get::<f64>(&case.id);
        for (batch_tokens, chunk_size) in [(1, 512), (1 << 20, 512), (1 << 20, 100), (600, 512)] {
            let default = RerankOptions::default();
            let options = RerankOptions {
                instruct: case.instruct.clone().unwrap_or(default.instruct),
                max_length: case.max_length.unwrap_or(default.max_length),
                batch_tokens,
                chunk_size,
            };
            let found = rerank(&checkpoint, options, &case.query, &case.documents).unwrap();
            let lengths: Vec<_> = found.iter().map(|reranked| reranked.tokens).collect();
            assert_eq!(lengths, case.ids.iter().map(Vec::len).collect::<Vec<_>>(), "{}", case.id);
            let off = error(found.iter().map(|reranked| reranked.score), expected.iter().copied());
            let limit = case.tolerance["f32"];
            assert!(off <= limit, "{} in batches of {batch_tokens}: {off:e} > {limit:e}", case.id);
        }
    }
}

/// The texts that are read are the official ones, byte for byte, and so are their tokens.
#[test]
fn prompts_are_the_official_ones() {
    for case in fixture::<Texts>("embedding").0 {
        let tokenizer = Tokenizer::open(folder(&case.checkpoint)).unwrap();
        for ((text, read_as), ids) in case.texts.iter().zip(&case.read_as).zip(&case.ids) {
            let read = case.task.as_ref().map_or(text.clone(), |task| instructed(task, text));
            assert_eq!(&read, read_as);
            let most = case.max_length.unwrap_or(usize::MAX).min(ids.len());
            assert_eq!(&tokenizer.encode_with_special(read_as, most).unwrap(), ids, "{read_as:?}");
        }
    }
    let tokenizer = Tokenizer::open(folder(RERANKER)).unwrap();
    for case in fixture::<Documents>("reranking").0 {
        let instruct = case.instruct.as_deref().unwrap_or(DEFAULT_INSTRUCT);
        for ((document, prompt), ids) in case.documents.iter().zip(&case.prompts).zip(&case.ids) {
            assert_eq!(&rerank_prompt(instruct, &case.query, document), prompt);
            let whole = tokenizer.encode(prompt).unwrap();
            assert!(ids.len() <= whole.len());
            if case.max_length.is_none() && whole.len() <= 512 {
                assert_eq!(&whole, ids, "{prompt:?}");
            }
        }
    }
}

#[test]
fn the_official_tokenizer_reads_the_official_prompt() {
    let Some(assets) = assets("the_official_tokenizer_reads_the_official_prompt") else {
        return;
    };
    let tokenizer = Tokenizer::open(assets.join("Qwen3-0.6B")).unwrap();
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    assert_eq!((ids("no"), ids("yes")), (vec![2152], vec![9693]));
    let prompt = rerank_prompt(DEFAULT_INSTRUCT, "What is gravity?", "It attracts two bodies.");
    let found = ids(&prompt);
    // <|im_start|> system \n Judge, and <|im_end|> \n <|im_start|> assistant \n <think> \n\n </think> \n\n
    assert_eq!(found[..4], [151_644, 8948, 198, 60_256]);
    assert_eq!(found[found.len() - 9..], [151_645, 198, 151_644, 77_091, 198, 151_667, 271, 151_668, 271]);
    assert_eq!(tokenizer.decode(&found, false).unwrap(), prompt);
    assert_eq!(
        prompt,
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct \
         provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a \
         web search query, retrieve relevant passages that answer the query\n<Query>: What is gravity?\n<Document>: It \
         attracts two bodies.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    // Of a model that generates, nothing is added.
    assert_eq!(tokenizer.encode_with_special("gravity", 100).unwrap(), ids("gravity"));
}

#[test]
fn vectors_have_length_one_in_every_dimension() {
    let checkpoint = encoder(EMBEDDER, DType::F32);
    let texts = ["one two three", "What is 3 plus 4?"];
    let whole = embed(&checkpoint, EmbedOptions::default(), &texts).unwrap();
    for dimensions in 1..=64 {
        let options = EmbedOptions { dimensions: Some(dimensions), ..EmbedOptions::default() };
        for (cut, whole) in embed(&checkpoint, options, &texts).unwrap().iter().zip(&whole) {
            let length: f64 = values(std::slice::from_ref(cut)).map(|value| value * value).sum();
            assert!((length.sqrt() - 1.0).abs() < 1e-6);
            // As long as the vector that it is cut from is in its first values.
            let part: f32 = whole.vector[..dimensions].iter().map(|value| value * value).sum();
            let scaled = whole.vector.iter().map(|value| f64::from(value / part.sqrt()));
            let cut = cut.vector.iter().map(|value| f64::from(*value));
            assert!(error(cut, scaled.take(dimensions)) < 1e-5);
        }
    }
}

/// The end token stays behind a text that is cut, whose other tokens are its first.
#[test]
fn a_text_that_is_too_long_is_cut_before_its_end_token() {
    let checkpoint = encoder(EMBEDDER, DType::F32);
    let tokenizer = &checkpoint.tokenizer;
    let text = "one two three four five six seven";
    let (ids, one) = (tokenizer.encode(text).unwrap(), tokenizer.encode("one").unwrap().len());
    for most in 1..=ids.len() + 1 {
        let cut = tokenizer.encode_with_special(text, most).unwrap();
        assert_eq!((&cut[..most - 1], cut[most - 1]), (&ids[..most - 1], 486));
        let options = EmbedOptions { max_length: Some(most), ..EmbedOptions::default() };
        let found = embed(&checkpoint, options, &[text, "one"]).unwrap();
        assert_eq!((found[0].tokens, found[0].cut), (most, most <= ids.len()));
        assert_eq!((found[1].tokens, found[1].cut), (most.min(one + 1), most < one + 1));
    }
    let refused = tokenizer.encode_with_special(text, 0).unwrap_err().to_string();
    assert!(refused.contains("tokenizer.json") && refused.contains("room for 0"), "{refused}");
    // As many as the model has positions, whatever is asked for.
    let options = EmbedOptions { max_length: Some(10_000), ..EmbedOptions::default() };
    let found = embed(&checkpoint, options, &["one ".repeat(300)]).unwrap();
    assert_eq!((found[0].tokens, found[0].cut), (128, true));
}

#[test]
fn a_document_is_cut_and_its_frame_is_not() {
    let checkpoint = reranker();
    let of = |max_length, document: &str| {
        let options = RerankOptions { max_length, ..RerankOptions::default() };
        rerank(&checkpoint, options, "a query", &[document])
    };
    let empty = of(512, "").unwrap()[0];
    let document = "word ".repeat(30);
    for more in [0, 1, 7] {
        let found = of(empty.tokens + more, &document).unwrap()[0];
        assert_eq!((found.tokens, found.cut), (empty.tokens + more, true));
    }
    assert_eq!(of(empty.tokens, "").unwrap()[0], empty);
    // What is left of a document is its beginning: another end changes nothing.
    let (ending, other) = (document.clone() + "yes", document.clone() + "no");
    assert_eq!(of(empty.tokens + 7, &ending).unwrap(), of(empty.tokens + 7, &other).unwrap());
    assert_ne!(of(512, &ending).unwrap(), of(512, &other).unwrap());
    for max_length in [0, 40, empty.tokens - 1] {
        match of(max_length, "").unwrap_err() {
            RetrievalError::NoRoom { tokens, room, .. } => assert!(tokens > room && room == max_length),
            other => panic!("{other}"),
        }
    }
}

/// What is the same for a text alone is the same in any company and order.
#[test]
fn company_does_not_change_anything() {
    let texts: Vec<String> = (1..20).map(|count| "3 plus 4 is 7. ".repeat(count % 7) + "yes").collect();
    let checkpoint = encoder(EMBEDDER, DType::F32);
    let alone: Vec<_> =
        texts.iter().flat_map(|text| embed(&checkpoint, EmbedOptions::default(), &[text]).unwrap()).collect();
    for (padding, batch_tokens) in WAYS {
        let options = EmbedOptions { padding, batch_tokens, chunk_size: 20, ..EmbedOptions::default() };
        let together = embed(&checkpoint, options, &texts).unwrap();
        assert!(error(values(&together), values(&alone)) < 2e-6);
    }
    let checkpoint = reranker();
    let score = |texts: &[&String], batch_tokens| -> Vec<f64> {
        let options = RerankOptions { batch_tokens, ..RerankOptions::default() };
        let found = rerank(&checkpoint, options, "a query", texts).unwrap();
        found.iter().map(|reranked| reranked.score).collect()
    };
    let alone: Vec<_> = texts.iter().flat_map(|text| score(&[text], 1)).collect();
    let all: Vec<_> = texts.iter().collect();
    for batch_tokens in [1, 900, 1 << 20] {
        assert!(error(score(&all, batch_tokens), alone.clone()) < 2e-5);
    }
    let none: [&str; 0] = [];
    assert!(embed(&checkpoint, EmbedOptions::default(), &none).unwrap().is_empty());
}

#[test]
fn what_cannot_be_embedded_or_scored_is_refused() {
    let headless = encoder(EMBEDDER, DType::F32);
    for dimensions in [0, 65, usize::MAX] {
        let options = EmbedOptions { dimensions: Some(dimensions), ..EmbedOptions::default() };
        let error = embed(&headless, options, &["a"]).unwrap_err();
        assert!(
            matches!(error, RetrievalError::Dimensions { dimensions: found, hidden_size: 64 } if found == dimensions)
        );
    }
    let zero = EmbedOptions { chunk_size: 0, ..EmbedOptions::default() };
    let error = embed(&headless, zero, &["a"]).unwrap_err();
    assert!(matches!(error, RetrievalError::Session(SessionError::ZeroOption { option: "chunk_size" })));
    let error = rerank(&headless, RerankOptions::default(), "a", &["b"]).unwrap_err();
    assert!(matches!(error, RetrievalError::Session(SessionError::NoHead)), "{error}");
    let zero = RerankOptions { chunk_size: 0, ..RerankOptions::default() };
    let error = rerank(&reranker(), zero, "a", &["b"]).unwrap_err();
    assert!(matches!(error, RetrievalError::Session(SessionError::ZeroOption { option: "chunk_size" })));

    // No end token, and so no token at all; no token for an answer.
    let tiny = encoder("trained-tiny", DType::F32);
    let error = embed(&tiny, EmbedOptions::default(), &["a", ""]).unwrap_err();
    assert!(matches!(error, RetrievalError::Empty { row: 1, .. }), "{error}");
    assert_eq!(embed(&headless, EmbedOptions::default(), &[""]).unwrap()[0].tokens, 1);
    let error = rerank(&tiny, RerankOptions::default(), "a", &["b"]).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("`no` is the tokens ["), "{error}");

    // A tokenizer with more tokens than the model has: the text is named, not its place in a batch.
    let mut small = encoder(EMBEDDER, DType::F32);
    small.model.config.vocab_size = 486;
    let error = embed(&small, EmbedOptions::default(), &["a", "b"]).unwrap_err();
    assert!(
        matches!(error, RetrievalError::UnknownToken { row: 0, id: 486, vocab_size: 486, .. }),
        "{error}"
    );

    // Weights that overflow give no vector and no score.
    let mut broken = encoder(EMBEDDER, DType::F32);
    broken.model.model.norm.weight = broken.model.model.norm.weight.map(|weight| weight * f32::INFINITY);
    let error = embed(&broken, EmbedOptions::default(), &["a"]).unwrap_err();
    assert!(matches!(error, RetrievalError::NotFinite { row: 0 }), "{error}");
    let mut broken = reranker();
    broken.model.model.norm.weight = broken.model.model.norm.weight.map(|weight| weight * f32::NAN);
    let error = rerank(&broken, RerankOptions::default(), "a", &["b"]).unwrap_err();
    assert!(matches!(error, RetrievalError::NotFinite { row: 0 }), "{error}");
}
