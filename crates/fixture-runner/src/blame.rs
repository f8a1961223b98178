//! Says which known mistake explains activations that differ from the reference's.
//!
//! The tensors both files have are walked in the order of computation. At the first one beyond its
//! limit, the layers since the last good one are computed again in float64 ([`probe`]) from the
//! reference's input, once for each mistake of the [`catalogue`]; those that give what was observed are
//! the causes. Then the walk goes on from the observed values, so that a second mistake further on is
//! found behind the first.

mod catalogue;
mod combinations;
mod decoding;
mod error_shape;
mod explain;
mod findings;
mod fits;
mod guesses;
mod probe;
mod residual;
mod rounding;
mod search;
mod segment;
#[cfg(test)]
mod tests;
mod variant;
mod walk;
mod weights;

use serde::Serialize;

use crate::tensors::layer_of;

pub use decoding::right_logits;
pub use probe::{Tokens, run_layer};
pub use variant::Variant;
pub use walk::{Blame, diagnose};
pub use weights::{EMBEDDING, HEAD, LayerWeights};

/// Where the numbers first go wrong, and why.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diagnosis {
    /// The first tensor beyond its limit, in the order of computation.
    pub first_divergence: Option<Divergence>,
    /// The first intermediate tensor beyond its limit when the layer is given the right input.
    pub operation: Option<String>,
    /// What explains it, best first; empty when all passes, and when nothing explains it.
    pub causes: Vec<Cause>,
    /// When nothing explains it: what the error looks like.
    pub error_shape: Vec<String>,
    /// Anything else worth knowing.
    pub notes: Vec<String>,
}

impl Diagnosis {
    /// Notes the first tensor to differ.
    pub fn diverges(&mut self, tensor: &str) {
        self.first_divergence = Some(Divergence {
            layer: layer_of(tensor),
            tensor: tensor.into(),
        });
    }
}

/// A place in the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The decoder layer; `None` outside the layers.
    pub layer: Option<usize>,
    /// The tensor's key in the reference.
    pub tensor: String,
}

/// A mistake that explains what was observed.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Its id in the catalogue.
    pub id: &'static str,
    /// A sentence for people.
    pub explanation: String,
    /// The error without the mistake: norm of the difference over norm of the observed values.
    pub residual_before: Option<f64>,
    /// The error with it.
    pub residual_after: Option<f64>,
    /// The layers it was found in; empty outside the layers.
    pub layers: Vec<usize>,
}
