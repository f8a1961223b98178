use thiserror::Error;

/// What a session refuses. A refused call leaves the session as it was.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// Batch, capacity and chunk size are at least one.
    #[error("session option `{option}` must be at least 1")]
    ZeroOption {
        /// The option's name.
        option: &'static str,
    },
    /// Logits are asked of a model without a [`head`](crate::Qwen3::head).
    #[error("the model has no head: it gives hidden states and no logits")]
    NoHead,
    /// The model was not made for so many positions.
    #[error("capacity {capacity} exceeds the {max} positions of the model")]
    CapacityBeyondModel {
        /// Capacity asked for, in tokens.
        capacity: usize,
        /// [`Qwen3Config::max_tokens`](crate::Qwen3Config::max_tokens).
        max: usize,
    },
    /// One prompt or token per sequence.
    #[error("{found} sequences given to a session with batch {expected}")]
    BatchSize {
        /// The session's batch.
        expected: usize,
        /// Sequences in the call.
        found: usize,
    },
    /// A prompt has no token.
    #[error("prompt {row} is empty")]
    EmptyPrompt {
        /// Index of the sequence.
        row: usize,
    },
    /// Padding between a sequence's tokens would count in the windows of the model's layers, which go by slots.
    #[error(
        "prompt {row} has {tokens} tokens and the longest {longest}: in a model with sliding windows, prompts that \
         follow others must be of one length"
    )]
    PaddingInWindows {
        /// Index of the sequence.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// Those of the longest prompt.
        longest: usize,
    },
    /// A token id lies outside the vocabulary.
    #[error("token id {id} in sequence {row} is not below vocab_size {vocab_size}")]
    UnknownToken {
        /// Index of the sequence.
        row: usize,
        /// The id.
        id: u32,
        /// The config's `vocab_size`.
        vocab_size: usize,
    },
    /// The tokens do not fit into what is left of the cache.
    #[error("the cache is full: {used} of {capacity} slots are used and {needed} more are needed")]
    CacheFull {
        /// Slots in use, padding included.
        used: usize,
        /// All slots.
        capacity: usize,
        /// Slots the call needs.
        needed: usize,
    },
    /// A step needs a prefill before it.
    #[error("`step` called before `prefill`")]
    NotPrefilled,
}
