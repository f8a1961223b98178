//! Texts to vectors, and documents to scores, as Qwen3-Embedding and Qwen3-Reranker are used.

mod batches;
mod embedder;
mod error;
mod reranker;

pub use self::embedder::{EmbedOptions, Embedder, Embedding, instructed};
pub use self::error::RetrievalError;
pub use self::reranker::{DEFAULT_INSTRUCT, RerankOptions, Reranked, Reranker, best_first, rerank_prompt};

/// Tokens that are read side by side where an option does not say otherwise, padding counted.
const BATCH_TOKENS: usize = 2048;
/// Tokens of a sequence that are read at once where an option does not say otherwise.
const CHUNK_SIZE: usize = 256;
