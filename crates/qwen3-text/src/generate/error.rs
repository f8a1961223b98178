use qwen3_model::SessionError;
use thiserror::Error;

use crate::TextError;

/// Why a generation cannot begin or go on.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// An option, a logit or a token.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The session refused a prompt.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A prompt leaves no room for an answer.
    #[error("prompt {row} has {tokens} tokens, and there is room for {room}")]
    PromptTooLong {
        /// Index of the prompt.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// Positions of the model, or slots of the session.
        room: usize,
    },
    /// There is no prompt.
    #[error("there is no prompt")]
    NoPrompt,
}
