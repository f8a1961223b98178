use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper};

use crate::around::Around;
use crate::files::{bad_key, read_object, read_text_if_there};
use crate::pieces::Cuts;
use crate::special::special_tokens;
use crate::tokenizer_check::check;
use crate::{TextError, TokenStream};

/// A checkpoint's tokenizer: text to token ids and back.
///
/// It is the `tokenizers` library that Transformers' fast tokenizers wrap. Nothing is added to a text that is
/// [encoded](Self::encode): what goes around it, the chat template writes. Where a text stands alone, as one to be
/// embedded, [`encode_with_special`](Self::encode_with_special) adds what the file says.
///
/// What the file describes is within the [limits](crate::limits); the time that its regular expressions take on a
/// text is not bounded, only how far each may backtrack.
///
/// ```
/// # fn main() -> Result<(), qwen3_text::TextError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
/// use qwen3_text::Tokenizer;
/// let tokenizer = Tokenizer::open(folder)?;
/// let ids = tokenizer.encode("1 2 3")?;
/// assert_eq!(tokenizer.decode(&ids, true)?, "1 2 3");
/// assert!(tokenizer.id("<|im_end|>").is_some_and(|id| tokenizer.is_special(id)));
/// # Ok(())
/// # }
/// ```
pub struct Tokenizer {
    /// Where it was read from, for errors.
    file: PathBuf,
    inner: tokenizers::Tokenizer,
    special: HashSet<u32>,
    byte_level: bool,
    cuts: Option<Cuts>,
    /// What the post-processor puts around a text, or why that cannot be said.
    around: Result<Around, String>,
    eos: Option<u32>,
    pad: Option<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of the directory `dir` and, when there is one, `tokenizer_config.json`,
    /// whose added tokens and special tokens are taken over as Transformers does.
    ///
    /// # Errors
    /// When a file is missing, unreadable or malformed, describes no tokenizer or one beyond the
    /// [limits](crate::limits), or when the two files disagree on the id of a token.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TextError> {
        let dir = dir.as_ref();
        let file = dir.join("tokenizer.json");
        let refused = |reason: String| TextError::Tokenizer { file: file.clone(), reason };
        let text = read_text_if_there(&file)?.ok_or_else(|| absent(&file))?;
        // The library panics on some files that are not JSON, or not its JSON.
        check(&file, &text)?;
        let mut inner: tokenizers::Tokenizer = catch_unwind(|| text.parse())
            .unwrap_or_else(|_| Err("the tokenizer library panicked".into()))
            .map_err(|error: tokenizers::Error| refused(error.to_string()))?;
        // A tokenizer file may ask for either; a prompt is never cut or filled up behind one's back.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| refused(error.to_string()))?;
        // Nor is anything put around it unasked, or the text itself twice.
        let around = catch_unwind(AssertUnwindSafe(|| Around::of(inner.get_post_processor())));
        let around = around.unwrap_or_else(|_| Err("the tokenizer library panicked".into()));
        inner.with_post_processor(None::<PostProcessorWrapper>);
        drop(text);

        let config_file = dir.join("tokenizer_config.json");
        let config = read_object(&config_file)?.unwrap_or_default();
        add_tokens(&mut inner, &config_file, &config)?;
        let named = special_tokens(&config_file, &config)?;
        let id = |name: &str| {
            let token = named.iter().find(|(known, _)| *known == name);
            token.and_then(|(_, text)| inner.token_to_id(text))
        };
        let (eos, pad) = (id("eos_token"), id("pad_token"));

        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id);
        Ok(Self {
            special: special.collect(),
            cuts: Cuts::of(&inner),
            around,
            byte_level: matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
            eos,
            pad,
            inner,
            file,
        })
    }

    /// The token ids of `text`. Special and added tokens that are spelled out in it are recognised;
    /// none is put before or after it. With a tokenizer of Qwen's kind, a long text is encoded in pieces that have the
    /// same tokens as the whole, and takes little more memory than its ids.
    ///
    /// # Errors
    /// [`TextError::Coding`] when the tokenizer has no token for a part of it; a byte-level one,
    /// such as Qwen3's, always has.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        for piece in self.encode_in_pieces(text) {
            ids.extend(piece?);
        }
        Ok(ids)
    }

    /// The token ids of `text` between those that the post-processor of `tokenizer.json` puts around a text: an
    /// embedding model's puts an end token behind it. No more than `most` ids: what is too long is cut at its end, and
    /// what stands around it stays whole.
    ///
    /// Follows a Transformers tokenizer called with `add_special_tokens=True`, `truncation=True` and `max_length`.
    ///
    /// # Errors
    /// [`TextError::Coding`] as [`encode`](Self::encode), when the post-processor does not put the text between
    /// tokens, once and whole, and when these alone are more than `most`.
    pub fn encode_with_special(&self, text: &str, most: usize) -> Result<Vec<u32>, TextError> {
        let refused =
            |reason: String| TextError::Coding { file: self.file.clone(), action: "encode", reason };
        let Around { before, after } = self.around.as_ref().map_err(|reason| refused(reason.clone()))?;
        let special = before.len() + after.len();
        let Some(room) = most.checked_sub(special) else {
            let reason = format!(
                "its post_processor puts {special} tokens around a text, and there is room for {most}"
            );
            return Err(refused(reason));
        };
        let mut ids = before.clone();
        for piece in self.encode_in_pieces(text) {
            ids.extend(piece?);
            if ids.len() > before.len() + room {
                ids.truncate(before.len() + room);
                break;
            }
        }
        ids.extend(after);
        Ok(ids)
    }

    /// The ids of [`encode`](Self::encode), piece by piece; one piece where the text cannot be cut.
    pub fn encode_in_pieces(&self, text: &str) -> impl Iterator<Item = Result<Vec<u32>, TextError>> {
        let whole = || vec![text];
        let pieces = self.cuts.as_ref().map_or_else(whole, |cuts| cuts.pieces(text));
        pieces.into_iter().map(|piece| {
            let encoding = self.coding("encode", || self.inner.encode_fast(piece, false))?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// The text of `ids`, without the special tokens when `skip_special` is set. Bytes that are not
    /// UTF-8 become U+FFFD, one for each maximal part of a character.
    ///
    /// # Errors
    /// [`TextError::UnknownToken`], where Transformers leaves the token out, and [`TextError::Coding`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        for &id in ids {
            self.known_token(id)?;
        }
        self.decode_known(ids, skip_special)
    }

    /// A detokenizer for one stream of tokens. See [`TokenStream`].
    pub fn stream(&self, skip_special: bool) -> TokenStream<'_> {
        TokenStream::new(self, skip_special)
    }

    /// The token with this id as the vocabulary spells it: for a byte-level tokenizer each character
    /// stands for a byte (`Ġ` is a space).
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token spelled as the vocabulary does.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Tokens in the vocabulary, added ones included. A model's `vocab_size` may be larger: its
    /// embedding is padded.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Is this a special token, one that `decode` can leave out?
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The config's `eos_token`. A model may stop at others too: see
    /// [`GenerationConfig`](crate::GenerationConfig).
    pub fn eos_token_id(&self) -> Option<u32> {
        self.eos
    }

    /// The config's `pad_token`.
    pub fn pad_token_id(&self) -> Option<u32> {
        self.pad
    }

    /// The file it was read from.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn decode_known(&self, ids: &[u32], skip: bool) -> Result<String, TextError> {
        self.coding("decode", || self.inner.decode(ids, skip))
    }

    /// The token, or an error that names the id.
    pub(crate) fn known_token(&self, id: u32) -> Result<String, TextError> {
        self.token(id).ok_or_else(|| TextError::UnknownToken { id, vocab_size: self.vocab_size() })
    }

    pub(crate) fn is_byte_level(&self) -> bool {
        self.byte_level
    }

    /// What the library does, its panics being errors: a file can describe what it does not expect.
    fn coding<T>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> Result<T, tokenizers::Error>,
    ) -> Result<T, TextError> {
        let done = catch_unwind(AssertUnwindSafe(work));
        done.unwrap_or_else(|_| Err("the tokenizer library panicked".into()))
            .map_err(|error| TextError::Coding { file: self.file.clone(), action, reason: error.to_string() })
    }
}

/// That there is no such file.
fn absent(file: &Path) -> TextError {
    let slow = file.with_file_name("vocab.json").is_file();
    let wanted = if slow {
        "vocab.json and merges.txt alone are not read; Transformers makes it of them: \
         AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    } else {
        "the tokenizer lies beside the weights, as Hugging Face's tokenizers library writes it; copy it from where the \
         model comes from"
    };
    TextError::NoTokenizer { file: file.into(), wanted }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("special", &self.special.len())
            .finish_non_exhaustive()
    }
}

/// Adds the tokens of `added_tokens_decoder` that `tokenizer.json` lacks, in the order of their ids.
fn add_tokens(
    tokenizer: &mut tokenizers::Tokenizer,
    file: &Path,
    config: &Map<String, Value>,
) -> Result<(), TextError> {
    let entries = match config.get("added_tokens_decoder") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(bad_key(file, "added_tokens_decoder", "is not an object")),
    };
    let mut tokens = Vec::new();
    for (id, entry) in entries {
        let key = format!("added_tokens_decoder.{id}");
        let number: u32 = id.parse().map_err(|_| bad_key(file, &key, "is not a token id"))?;
        let content = entry.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| bad_key(file, &key, "has no `content` string"))?;
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        let token = AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special));
        tokens.push((number, key, token));
    }
    tokens.sort_by_key(|(id, ..)| *id);
    for (id, key, token) in tokens {
        let content = token.content.clone();
        if tokenizer.token_to_id(&content).is_none() {
            tokenizer.add_tokens([token]).map_err(|error| bad_key(file, &key, error))?;
        }
        let found = tokenizer.token_to_id(&content);
        if found != Some(id) {
            let found = found.map_or("no id".into(), |found| format!("id {found}"));
            let reason = format!("is {content:?}, which has {found} in tokenizer.json");
            return Err(bad_key(file, key, reason));
        }
    }
    Ok(())
}
