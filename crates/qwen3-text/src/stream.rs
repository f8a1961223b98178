use std::collections::VecDeque;
use std::str;

use crate::{TextError, Tokenizer};

/// Tokens of context that the general method decodes again with each new one.
const WINDOW: usize = 8;

/// Turns tokens into text as they come, never with half a character.
///
/// With a byte-level tokenizer, such as Qwen3's, all pieces together are exactly what
/// [`Tokenizer::decode`] makes of all tokens, invalid bytes included, and a token costs time and memory
/// in proportion to its own length. With any other decoder a bounded window is decoded again for each
/// token, and the pieces are the differences, as in Text Generation Inference; they add up to the whole
/// as long as the decoder looks no further back than the window.
///
/// ```
/// # fn main() -> Result<(), qwen3_text::TextError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
/// let tokenizer = qwen3_text::Tokenizer::open(folder)?;
/// let (mut stream, mut text) = (tokenizer.stream(true), String::new());
/// for id in tokenizer.encode("caf\u{e9}")? {
///     text += &stream.push(id)?;
/// }
/// text += &stream.finish()?;
/// assert_eq!(text, "caf\u{e9}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes of a character that has only begun; at most three.
    Bytes(Vec<u8>),
    Window {
        /// The last tokens: some whose text is out, then those whose text is not.
        ids: VecDeque<u32>,
        /// How many of them are out.
        done: usize,
    },
}

impl<'a> TokenStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        let state = if tokenizer.is_byte_level() {
            State::Bytes(Vec::new())
        } else {
            State::Window { ids: VecDeque::new(), done: 0 }
        };
        Self { tokenizer, skip_special, state }
    }

    /// The text that `id` completes; often a word, empty while a character is incomplete.
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] and [`TextError::Coding`]; the stream is then as it was before.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        let token = self.tokenizer.known_token(id)?;
        if self.skip_special && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        match &mut self.state {
            State::Bytes(pending) => {
                push_bytes(pending, &token);
                Ok(take_complete(pending))
            }
            State::Window { ids, done } => {
                ids.push_back(id);
                // The decoder may still read another character into either.
                let piece = difference(self.tokenizer, ids, *done).map(|piece| {
                    let open = piece.ends_with('\u{fffd}') || is_byte_token(&token);
                    if open { None } else { Some(piece) }
                });
                match piece {
                    Err(error) => {
                        ids.pop_back();
                        Err(error)
                    }
                    Ok(None) => Ok(String::new()),
                    Ok(Some(piece)) => {
                        *done = ids.len();
                        while ids.len() > WINDOW {
                            ids.pop_front();
                            *done -= 1;
                        }
                        Ok(piece)
                    }
                }
            }
        }
    }

    /// The rest: U+FFFD for a character that never became complete, nothing otherwise. The stream can
    /// then be used for another text.
    ///
    /// # Errors
    /// [`TextError::Coding`].
    pub fn finish(&mut self) -> Result<String, TextError> {
        match &mut self.state {
            State::Bytes(pending) => Ok(String::from_utf8_lossy(&std::mem::take(pending)).into_owned()),
            State::Window { ids, done } => {
                let rest = difference(self.tokenizer, ids, *done)?;
                (*ids, *done) = (VecDeque::new(), 0);
                Ok(rest)
            }
        }
    }
}

/// What the tokens after the first `done` add to the text of those.
fn difference(tokenizer: &Tokenizer, ids: &mut VecDeque<u32>, done: usize) -> Result<String, TextError> {
    let ids: &[u32] = ids.make_contiguous();
    // Special tokens to be skipped never get here.
    let before = tokenizer.decode_known(&ids[..done], false)?;
    let mut all = tokenizer.decode_known(ids, false)?;
    let common = before.char_indices().zip(all.chars()).find(|((_, a), b)| a != b);
    let common = common.map_or(before.len().min(all.len()), |((at, _), _)| at);
    Ok(all.split_off(common))
}

/// `<0xE4>`: a byte of a SentencePiece vocabulary.
fn is_byte_token(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Adds the bytes of a byte-level token; of its characters when one of them stands for no byte, as
/// the decoder of `tokenizers` does.
fn push_bytes(bytes: &mut Vec<u8>, token: &str) {
    let start = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(start);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable Latin-1 characters for
/// themselves, U+0100 and up for the other 68 in order (GPT-2's `bytes_to_unicode`).
fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// Takes the bytes whose text can no longer change, and leaves those of an incomplete character.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest: &[u8] = bytes;
    loop {
        match str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, invalid) = rest.split_at(error.valid_up_to());
                text.push_str(str::from_utf8(valid).expect("bytes found valid"));
                rest = invalid;
                match error.error_len() {
                    Some(length) => {
                        text.push('\u{fffd}');
                        rest = &rest[length..];
                    }
                    None => break,
                }
            }
        }
    }
    let left = rest.len();
    bytes.drain(..bytes.len() - left);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let mut seen: Vec<u8> = (0..0x400).filter_map(char::from_u32).filter_map(byte_of).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
    }

    #[test]
    fn incomplete_characters_wait() {
        let mut bytes = vec![b'a', 0xe4, 0xbd];
        assert_eq!(take_complete(&mut bytes), "a");
        bytes.push(0xa0);
        assert_eq!(take_complete(&mut bytes), "你");
        bytes.extend([0xf0, 0x9f, b'!']);
        assert_eq!(take_complete(&mut bytes), "\u{fffd}!");
        assert!(bytes.is_empty());
    }

    #[test]
    fn byte_tokens_of_sentencepiece() {
        assert!(is_byte_token("<0xE4>"));
        assert!(!is_byte_token("<0xE4"));
        assert!(!is_byte_token("<0x+4>x"));
    }
}
