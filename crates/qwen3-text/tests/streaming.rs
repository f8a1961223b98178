//! Pieces of text add up to the text, whatever the tokens.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use common::{assets, root};
use proptest::prelude::*;
use qwen3_text::Tokenizer;

fn tiny() -> &'static Tokenizer {
    static TINY: OnceLock<Tokenizer> = OnceLock::new();
    TINY.get_or_init(|| Tokenizer::open(root().join("fixtures/checkpoints/trained-tiny")).unwrap())
}

fn check(tokenizer: &Tokenizer, ids: &[u32], skip: bool) -> Result<(), TestCaseError> {
    let mut stream = tokenizer.stream(skip);
    let mut text = String::new();
    for &id in ids {
        text += &stream.push(id).unwrap();
    }
    text += &stream.finish().unwrap();
    prop_assert_eq!(text, tokenizer.decode(ids, skip).unwrap());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_tokens(ids in prop::collection::vec(0..tiny().vocab_size() as u32, 0..40), skip: bool) {
        check(tiny(), &ids, skip)?;
    }

    /// The first 256 tokens are the single bytes: most sequences of them are not UTF-8.
    #[test]
    fn any_bytes(ids in prop::collection::vec(0u32..256, 0..40)) {
        check(tiny(), &ids, false)?;
    }
}

#[test]
fn any_tokens_of_the_official_tokenizer() {
    let Some(assets) = assets("any_tokens_of_the_official_tokenizer") else {
        return;
    };
    let tokenizer = Tokenizer::open(assets.join("Qwen3-0.6B")).unwrap();
    let ids = prop::collection::vec(0..tokenizer.vocab_size() as u32, 0..40);
    proptest!(ProptestConfig::with_cases(2000), |(ids in ids, skip: bool)| {
        check(&tokenizer, &ids, skip)?;
    });
}

/// A vocabulary in the manner of SentencePiece: `▁` for spaces, bytes for what has no token.
fn sentencepiece(dir: &Path) -> Tokenizer {
    let mut vocab: Vec<String> = ["▁", "a", "b", "▁a", "é", "<s>"].map(String::from).to_vec();
    vocab.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let vocab: serde_json::Map<_, _> =
        vocab.into_iter().zip(0..).map(|(t, id): (String, u32)| (t, id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null,
        "added_tokens": [{"id": 5, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    std::fs::write(dir.join("tokenizer.json"), json.to_string()).unwrap();
    Tokenizer::open(dir).unwrap()
}

#[test]
fn another_decoder_is_followed_through_a_window() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = sentencepiece(dir.path());
    // Letters, or a whole character in bytes now and then.
    let unit = prop_oneof![
        3 => (0u32..6).prop_map(|id| vec![id]),
        1 => Just("你".bytes().map(|byte| 6 + u32::from(byte)).collect::<Vec<_>>()),
        1 => (6u32..262).prop_map(|id| vec![id]),
    ];
    proptest!(ProptestConfig::with_cases(2000), |(units in prop::collection::vec(unit, 0..30), skip: bool)| {
        check(&tokenizer, &units.concat(), skip)?;
    });
}
