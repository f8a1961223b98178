//! From logits to a token.

mod choices;
mod choose;
mod filter;
mod options;
mod sampler;

pub(crate) use choices::Choices;
pub use options::SamplingOptions;
pub use sampler::Sampler;
