//! What files of a checkpoint may cost. A chat template and a tokenizer come from whoever made the checkpoint;
//! beyond these limits they end in an error that names them.
//!
//! A template is rendered on a thread of its own, whose stack holds what the other limits allow. What they do not
//! bound in process: a template that computes until [`TEMPLATE_TIME`] is over is not ended in the middle of one
//! operation, of which the longest take about a second; and a `namespace` that is stored in itself is never
//! freed, up to [`TEMPLATE_TEXT`] for each rendering. A program that renders templates of strangers all day does so
//! in a process that it can end, as the command `qwen3` does.

use std::time::Duration;

/// Bytes of a tokenizer, config or message file; the largest tokenizers in use have 33 MB.
pub const FILE: u64 = 64 << 20;

/// Bytes of a template's source; the largest in use have 60,000.
pub const TEMPLATE_SOURCE: usize = 1 << 20;

/// Tokens between `{{` and `}}`, or `{%` and `%}`. The parser's recursion is at most as deep.
pub const TEMPLATE_TAG_TOKENS: usize = 4096;

/// `elif` in a template: each is an `if` within the one before it.
pub const TEMPLATE_ELIFS: usize = 1000;

/// Instructions of a rendering, and as many more for each message as [`TEMPLATE_STEPS_PER_MESSAGE`] says.
pub const TEMPLATE_STEPS: u64 = 4_000_000;

/// See [`TEMPLATE_STEPS`].
pub const TEMPLATE_STEPS_PER_MESSAGE: u64 = 40_000;

/// Time of a rendering.
pub const TEMPLATE_TIME: Duration = Duration::from_secs(5);

/// Bytes of everything that a rendering makes, whether it is kept or not: texts, lists and dictionaries, each counted
/// as at least [`TEMPLATE_CONTAINER`], and what is printed.
pub const TEMPLATE_TEXT: usize = 128 << 20;

/// Bytes of a prompt.
pub const TEMPLATE_PROMPT: usize = 32 << 20;

/// What a list or dictionary counts for. With [`TEMPLATE_TEXT`], values are nested at most 65,536 deep.
pub const TEMPLATE_CONTAINER: usize = 2048;

/// Bytes of one text in a template.
pub const TEMPLATE_STRING: usize = 4 << 20;

/// Bytes of the texts, and 64 for each value, that a rendering compares, searches, sorts and joins.
pub const TEMPLATE_WORK: usize = 1 << 30;

/// Items of one list in a template.
pub const TEMPLATE_ITEMS: usize = 1 << 20;

/// How deep a value may be nested that is printed, compared, sorted or searched.
pub const TEMPLATE_DEPTH: usize = 512;

/// Values inside one that is compared, sorted, searched or joined.
pub const TEMPLATE_NODES: usize = 1 << 20;

/// Bytes of the stack on which templates are parsed and rendered. The system gives what is used of it.
pub(crate) const TEMPLATE_STACK: usize = 256 << 20;

/// Parts (normalizers, pre-tokenizers, decoders) of each pipeline in `tokenizer.json`.
pub const TOKENIZER_PARTS: usize = 64;

/// How deep those parts may be nested.
pub const TOKENIZER_DEPTH: usize = 8;

/// Bytes of a pattern, of what replaces it, and of what is put before a text.
pub const TOKENIZER_PATTERN: usize = 8192;

/// Tokens that the templates of the post-processor name, each counted once.
pub const TOKENIZER_SPECIAL: usize = 256;

/// How many times longer the normalizers, or the decoders, may make a text in the worst case.
pub const TOKENIZER_GROWTH: usize = 64;
