use std::path::PathBuf;

use thiserror::Error;

/// Why text cannot be read, rendered, encoded or sampled. Names the file, and the key where there is one.
#[derive(Debug, Error)]
pub enum TextError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not what its name says: truncated, too large, or not JSON.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, with line and column where they are known.
        reason: String,
    },
    /// A key of a JSON file has a value that is not allowed.
    #[error("{}: `{key}` {reason}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, with its path: `messages[3].role`.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// There is no `tokenizer.json`.
    #[error("{}: no such file: {wanted}", file.display())]
    NoTokenizer {
        /// Where it should be.
        file: PathBuf,
        /// What it is, and where it comes from.
        wanted: &'static str,
    },
    /// `tokenizer.json` describes no tokenizer that can be built.
    #[error("{}: not a tokenizer: {reason}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// The tokenizer library's reason.
        reason: String,
    },
    /// The tokenizer cannot encode a text or decode tokens.
    #[error("{}: the tokenizer cannot {action}: {reason}", file.display())]
    Coding {
        /// The tokenizer's file.
        file: PathBuf,
        /// `encode` or `decode`.
        action: &'static str,
        /// The tokenizer library's reason.
        reason: String,
    },
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is not in the vocabulary of {vocab_size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Tokens in the vocabulary, or logits in a row.
        vocab_size: usize,
    },
    /// The directory has no chat template.
    #[error("{}: no chat_template.jinja and no `chat_template` in tokenizer_config.json", dir.display())]
    NoChatTemplate {
        /// The checkpoint directory.
        dir: PathBuf,
    },
    /// A chat template is not Jinja.
    #[error("{}: line {line}: {reason}", file.display())]
    TemplateSyntax {
        /// The file that holds the template, or its name.
        file: PathBuf,
        /// Line of the template, from 1.
        line: usize,
        /// What the parser met.
        reason: String,
    },
    /// A chat template failed on these messages.
    #[error("{}: line {line}: {reason}", file.display())]
    TemplateRender {
        /// The file that holds the template, or its name.
        file: PathBuf,
        /// Line of the template, from 1; 0 when it is unknown.
        line: usize,
        /// What went wrong.
        reason: String,
    },
    /// A chat template refused these messages with its own words (`raise_exception`).
    #[error("{}: line {line}: the template refuses: {message}", file.display())]
    TemplateRaised {
        /// The file that holds the template, or its name.
        file: PathBuf,
        /// Line of the template, from 1; 0 when it is unknown.
        line: usize,
        /// The template's message.
        message: String,
    },
    /// An option has a value that is not allowed.
    #[error("option `{option}` is {value}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// A logit is NaN or positive infinity: whatever computed it is broken.
    #[error("the logit of token {id} is {value}")]
    Logit {
        /// The token.
        id: usize,
        /// Its logit.
        value: f32,
    },
    /// No token can be chosen: there are no logits, or all are negative infinity.
    #[error("no token to choose among {count} logits")]
    NoChoice {
        /// Number of logits.
        count: usize,
    },
}
