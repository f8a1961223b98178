//! Where a text can be cut so that its parts have the same tokens as the whole.

use std::collections::HashSet;

use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

/// The pattern of Qwen2's and Qwen3's pre-tokenizer: no part of it looks back, and none but `\s+(?!\S)` ahead.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Bytes of a piece at least, of all but the last. The tokenizer takes about 200 times as much for one text.
const PIECE: usize = 1 << 16;

/// A longer run of white space can be more than the pattern may backtrack over, and is left to the whole.
const SPACES: usize = 1 << 16;

/// How a tokenizer's texts can be cut: before a space that follows something else, and after a line end before a
/// visible ASCII character. Qwen's pattern ends a match at both, whatever comes after or before; the normal form C of
/// both sides is that of the whole, as no ASCII character combines with what is before it; and no added token
/// goes across.
#[derive(Clone, Debug)]
pub(crate) struct Cuts {
    /// Neighbours of an added token's text.
    inseparable: HashSet<(char, char)>,
}

impl Cuts {
    /// The cuts of a tokenizer of Qwen's kind; none for any other.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let normalized = matches!(tokenizer.get_normalizer(), None | Some(NormalizerWrapper::NFC(_)));
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        if !normalized || model.dropout.is_some() || !splits(tokenizer.get_pre_tokenizer()?) {
            return None;
        }
        let mut inseparable = HashSet::new();
        for token in tokenizer.get_added_tokens_decoder().values() {
            if token.normalized || token.lstrip || token.rstrip || token.single_word {
                return None;
            }
            inseparable.extend(token.content.chars().zip(token.content.chars().skip(1)));
        }
        Some(Self { inseparable })
    }

    /// The text in pieces, in order.
    pub(crate) fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        self.pieces_of(text, PIECE)
    }

    /// The text in pieces of at least so many bytes.
    fn pieces_of<'a>(&self, text: &'a str, length: usize) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let (mut start, mut spaces) = (0, 0);
        let mut last = None;
        for (at, character) in text.char_indices() {
            spaces = if character.is_whitespace() { spaces + 1 } else { 0 };
            if spaces > SPACES {
                return vec![text];
            }
            if at - start >= length && last.is_some_and(|last| self.between(last, character)) {
                pieces.push(&text[start..at]);
                start = at;
            }
            last = Some(character);
        }
        pieces.push(&text[start..]);
        pieces
    }

    fn between(&self, before: char, after: char) -> bool {
        let cut = match after {
            ' ' => !before.is_whitespace(),
            _ => before == '\n' && after.is_ascii_graphic(),
        };
        cut && !self.inseparable.contains(&(before, after))
    }
}

/// Is it Qwen's pattern, then bytes?
fn splits(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    let PreTokenizerWrapper::Sequence(sequence) = pre_tokenizer else { return false };
    match sequence.as_ref() {
        [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)] => {
            split.pattern == SplitPattern::Regex(PATTERN.into())
                && split.behavior == SplitDelimiterBehavior::Isolated
                && !split.invert
                && !bytes.add_prefix_space
                && !bytes.use_regex
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_are_between_words_and_lines() {
        let cuts = Cuts { inseparable: HashSet::from([('d', ' ')]) };
        assert!(cuts.between('a', ' ') && cuts.between('\n', 'a') && cuts.between('。', ' '));
        assert!(!cuts.between(' ', ' ') && !cuts.between('\n', ' ') && !cuts.between('\n', '\n'));
        assert!(!cuts.between('a', 'b') && !cuts.between('\n', 'é') && !cuts.between('d', ' '));
        let text = "ab ".repeat(PIECE);
        let pieces = cuts.pieces(&text);
        assert!(pieces.len() == 3 && pieces.concat() == text);
        assert_eq!(cuts.pieces(&" ".repeat(2 * SPACES)).len(), 1);
        assert_eq!(cuts.pieces(""), [""]);
    }

    fn tokenizer() -> Tokenizer {
        let file = "../../fixtures/checkpoints/trained-tiny/tokenizer.json";
        Tokenizer::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    #[test]
    fn other_tokenizers_are_not_cut() {
        let mut tokenizer = tokenizer();
        assert!(Cuts::of(&tokenizer).is_some());
        tokenizer.add_tokens([tokenizers::AddedToken::from("<x>", false).lstrip(true)]).unwrap();
        assert!(Cuts::of(&tokenizer).is_none());
        let mut tokenizer = self::tokenizer();
        tokenizer.with_pre_tokenizer(None::<PreTokenizerWrapper>);
        assert!(Cuts::of(&tokenizer).is_none());
        let mut tokenizer = self::tokenizer();
        tokenizer.with_normalizer(Some(tokenizers::normalizers::NFKC)).unwrap();
        assert!(Cuts::of(&tokenizer).is_none());
    }

    /// Cut wherever that is allowed, every text has the tokens of the whole.
    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        let mut tokenizer = tokenizer();
        // One that has a place for a cut inside.
        tokenizer.add_tokens([tokenizers::AddedToken::from("a b\nc", false).normalized(false)]).unwrap();
        let cuts = Cuts::of(&tokenizer).unwrap();
        let part = prop_oneof![
            4 => "[ \\n\\r\\t]{1,4}",
            3 => "[a-c]{1,3}",
            2 => "[0-9]{1,3}",
            2 => "[.,!?'<>|-]{1,3}",
            1 => Just("'s".to_string()),
            1 => Just("a b\nc".to_string()),
            1 => Just("<|im_start|>".to_string()),
            1 => Just("<|im_end|>\n".to_string()),
            2 => "[\u{300}\u{327}\u{1161}\u{11a8}\u{1100}\u{2001}\u{212b}\u{3000}\u{85}\u{a0}éеж你好😀]{1,3}",
            1 => any::<char>().prop_map(String::from),
        ];
        let text = proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat());
        let ids = |text: &str| tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();
        proptest!(ProptestConfig::with_cases(2000), |(text in text)| {
            let pieces = cuts.pieces_of(&text, 1);
            prop_assert_eq!(pieces.concat(), text.clone());
            let parts: Vec<u32> = pieces.iter().flat_map(|piece| ids(piece)).collect();
            prop_assert_eq!(parts, ids(&text), "{:?}", pieces);
        });
    }
}
