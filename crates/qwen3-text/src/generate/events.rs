use std::time::Duration;

/// Something that happened in a [`Generation`](crate::Generation). `row` is the index of the prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A chunk of the prompts has been read.
    Prefill {
        /// Tokens read so far of the longest prompt.
        read: usize,
        /// Its tokens.
        total: usize,
    },
    /// A token was chosen; also one that ends the text.
    Token {
        /// The sequence.
        row: usize,
        /// The token.
        id: u32,
    },
    /// Text that is certain: whole characters, and no beginning of a stop string.
    Text {
        /// The sequence.
        row: usize,
        /// The text; never empty.
        text: String,
    },
    /// The model begins to think; the text `<think>` follows.
    ThinkingStarted {
        /// The sequence.
        row: usize,
    },
    /// The model has thought; the text `</think>` came before.
    ThinkingEnded {
        /// The sequence.
        row: usize,
    },
    /// The sequence is complete; nothing else follows for it.
    Finished {
        /// The sequence.
        row: usize,
        /// Why it ended.
        reason: FinishReason,
        /// How long it took.
        timing: Timing,
    },
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose one of the stop tokens, which is the last of the generated ids.
    StopToken(u32),
    /// This stop string was complete; it is not in the text.
    StopString(String),
    /// `max_new_tokens` were generated, or the model has no more positions.
    Length,
    /// [`Cancel`](crate::Cancel).
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length` or `cancelled`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StopToken(_) | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How long a sequence took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Until the first token: reading all prompts.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// A complete sequence; see [`Generation::finish`](crate::Generation::finish).
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The tokens of the prompt.
    pub prompt_ids: Vec<u32>,
    /// The generated tokens, the one that ended the text included, as Transformers' `generate` has them.
    pub generated_ids: Vec<u32>,
    /// Their text, without special tokens unless asked for, and without the stop string.
    pub text: String,
    /// Why it ended.
    pub reason: FinishReason,
    /// How long it took.
    pub timing: Timing,
}
