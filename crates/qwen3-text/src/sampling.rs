//! From logits to a token.

mod choose;
mod filter;
mod options;
mod sampler;

pub use options::SamplingOptions;
pub use sampler::Sampler;
