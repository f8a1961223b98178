//! Says which known mistake explains activations that differ from a reference.
//!
//! [`diagnose`] takes the verdicts of [`qwen3_trace`] and walks the tensors that reference and observation have
//! in common, in the order of computation. At the first one beyond its limit, the layers since the last good
//! one are computed again in float64 ([`run_layer`]) from the reference's input, once for each mistake of the
//! catalogue; those that give what was observed are the causes. Then the walk goes on from the observed
//! values, so that a second mistake further on is found behind the first. Nothing is judged here.
//!
//! [`examine`] does all of it for activations in a file.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod along;
mod arithmetic;
mod attend;
mod cache;
mod calibrate;
mod catalogue;
mod causes;
mod combinations;
mod conventions;
mod decoding;
mod derived;
mod diagnose;
mod error_shape;
mod examine;
mod experts;
mod explain;
mod explanation;
mod extended;
mod feed_forward;
mod findings;
mod fits;
mod formats;
mod guesses;
mod habits;
mod heads;
mod hypothesis;
mod kept;
mod laboratory;
mod low_rank;
mod noise;
mod norms;
mod ops;
mod place;
mod precision;
mod probe;
mod rare;
mod residual;
mod rival;
mod rounding;
mod routes;
mod search;
mod segment;
mod sent;
mod shifted;
mod sinks;
mod steps;
#[cfg(test)]
mod tests;
mod together;
mod variant;
mod walk;
mod weights;
mod wiring;

pub use calibrate::calibrate;
pub use causes::CAUSES;
pub use derived::{Derived, derive};
pub use diagnose::{Blame, Cause, Diagnosis, Divergence, diagnose};
pub use examine::{Examination, ExamineOptions, examine, missing_embedding};
pub use fits::Fitted;
pub use low_rank::{AdapterUse, LowRank, OtherScale};
pub use probe::{LayerTaps, run_layer};
pub use variant::Variant;
pub use weights::{FeedForwardWeights, LayerWeights, MlpWeights, Projection, SparseWeights};

/// What fails here is reading a file: a tensor's or the checkpoint's.
pub(crate) type Result<T> = std::result::Result<T, qwen3_trace::TraceError>;
