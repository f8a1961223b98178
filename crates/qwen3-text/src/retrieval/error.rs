use std::path::PathBuf;

use qwen3_model::SessionError;
use thiserror::Error;

use crate::TextError;

/// Why texts cannot be embedded, or documents not be scored.
#[derive(Debug, Error)]
pub enum RetrievalError {
    /// The tokenizer refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The session refused: an option, or [`SessionError::NoHead`].
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Vectors have no such number of values.
    #[error("dimensions is {dimensions}, expected 1 to {hidden_size}, the hidden_size of the model")]
    Dimensions {
        /// What was asked for.
        dimensions: usize,
        /// What the model gives.
        hidden_size: usize,
    },
    /// A text has no token, and its tokenizer adds none.
    #[error("text {row} is empty, and {} puts no token behind a text", file.display())]
    Empty {
        /// The tokenizer's file.
        file: PathBuf,
        /// Index of the text.
        row: usize,
    },
    /// The tokenizer is of another model: a text has a token that the model does not know.
    #[error("{}: text {row} has the token {id}, and the model's vocab_size is {vocab_size}", file.display())]
    UnknownToken {
        /// The tokenizer's file.
        file: PathBuf,
        /// Index of the text or document.
        row: usize,
        /// The token.
        id: u32,
        /// The config's `vocab_size`.
        vocab_size: usize,
    },
    /// The tokenizer writes an answer as several tokens, so that no logit is its.
    #[error("{}: `{word}` is the tokens {ids:?}, expected one: this is the tokenizer of no reranker", file.display())]
    Answer {
        /// The tokenizer's file.
        file: PathBuf,
        /// `yes` or `no`.
        word: &'static str,
        /// Its tokens.
        ids: Vec<u32>,
    },
    /// What stands around a document leaves it no room. A document is cut, its frame is not.
    #[error(
        "instruction, query and what stands around them are {tokens} tokens by {}, and there is room for {room}",
        file.display()
    )]
    NoRoom {
        /// The tokenizer's file.
        file: PathBuf,
        /// Tokens of the prompt of an empty document.
        tokens: usize,
        /// What a prompt may have.
        room: usize,
    },
    /// What the model computed is not finite.
    #[error("what the model gives for text {row} is not finite")]
    NotFinite {
        /// Index of the text or document.
        row: usize,
    },
}
