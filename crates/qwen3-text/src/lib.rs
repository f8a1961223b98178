//! Text in and text out of a Qwen3 checkpoint, as Hugging Face Transformers does it.
//!
//! [`Tokenizer`] and [`TokenStream`] turn text into token ids and back, [`ChatTemplate`] turns a
//! [`Conversation`] into a prompt, [`GenerationConfig`] reads what the checkpoint recommends, and
//! [`Sampler`] chooses a token from logits. [`StopMatcher`] and [`ThinkingTracker`] follow what is
//! generated. [`Generation`] puts them together over a [`Session`](qwen3_model::Session): an iterator of
//! events from prompts to text. [`Embedder`] turns texts into vectors, [`Reranker`] documents into scores.
//! `examples/` has whole programs.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod around;
mod chat;
mod error;
mod files;
mod generate;
mod generation_config;
pub mod limits;
mod pieces;
mod pretrained;
mod retrieval;
mod sampling;
mod special;
mod stop;
mod stream;
mod thinking;
mod tokenizer;
mod tokenizer_check;

pub use chat::{ChatTemplate, Conversation, Message, RenderOptions, parse_json};
pub use error::TextError;
pub use generate::{
    Cancel, Event, FinishReason, GenerateError, GenerateOptions, Generated, Generation, Timing,
};
pub use generation_config::GenerationConfig;
pub use minijinja::Value as TemplateValue;
pub use pretrained::{FromPretrained, PretrainedError, pretrained_path};
pub use retrieval::{
    DEFAULT_INSTRUCT, EmbedOptions, Embedder, Embedding, RerankOptions, Reranked, Reranker, RetrievalError,
    best_first, instructed, rerank_prompt,
};
pub use sampling::{Sampler, SamplingOptions};
pub use stop::{StopMatch, StopMatcher};
pub use stream::TokenStream;
pub use thinking::{ThinkingEvent, ThinkingTokens, ThinkingTracker};
pub use tokenizer::Tokenizer;

/// The examples of docs/library.md, compiled.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../../../docs/library.md")]
pub struct Library;
