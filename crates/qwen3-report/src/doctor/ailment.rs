//! How a tensor may stand to the original's, and what may have happened to it.

use serde::{Deserialize, Serialize};

/// How a tensor, or all of a checkpoint, stands to the original. The later ones are the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// The same values.
    #[default]
    Same,
    /// The values as another precision has them.
    Precision,
    /// The values in another order, or stored twice, as another engine has them: no damage.
    Layout,
    /// Other values.
    Wrong,
}

impl Health {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Precision => "precision",
            Self::Layout => "layout",
            Self::Wrong => "wrong",
        }
    }
}

/// What happened to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ailment {
    /// It is not in the files.
    Missing,
    /// It is in the files, and no model of this config has it.
    Unexpected,
    /// It cannot be read.
    Unreadable,
    /// It has another shape, which no known change explains.
    Shape,
    /// Values are NaN or infinite.
    NotFinite,
    /// All values are zero.
    Zero,
    /// Rows are zero.
    ZeroRows,
    /// It holds another tensor's values, which holds its.
    Exchanged,
    /// It holds another tensor's values, which holds its own, too: it was never written, or written twice.
    Stale,
    /// Rows hold other rows' values, which hold their own, too.
    StaleRows,
    /// Rows are in another order.
    RowsExchanged,
    /// A whole layer holds another's values.
    LayersExchanged,
    /// Rows and columns are exchanged.
    Transposed,
    /// Rows of queries and keys are in the order of interleaved rotary embeddings, as GGUF files of Llama have them.
    InterleavedRope,
    /// Rows of queries and keys were put into the order of halves from one that was this already.
    HalvedRope,
    /// One was taken from the weights of a norm.
    NormMinusOne,
    /// One was added to the weights of a norm.
    NormPlusOne,
    /// All values are multiplied with one number.
    Scaled,
    /// Rows are multiplied with numbers of their own.
    ScaledRows,
    /// Columns are multiplied with numbers of their own.
    ScaledColumns,
    /// The difference is a matrix of low rank: an adapter is merged, or is not.
    LowRank,
    /// Rows differ, and nothing known explains them.
    RowsDiffer,
    /// It differs, and nothing known explains it.
    Differs,
    /// The head is the embedding, where the original has a head of its own.
    TiedHead,
    /// The head is a matrix of its own, where the original's is the embedding.
    UntiedHead,
    /// The configs differ in what a model computes.
    Config,
}

impl Ailment {
    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unexpected => "unexpected",
            Self::Unreadable => "unreadable",
            Self::Shape => "another shape",
            Self::NotFinite => "NaN or infinite",
            Self::Zero => "all zero",
            Self::ZeroRows => "zero rows",
            Self::Exchanged => "exchanged",
            Self::Stale => "stale: holds another tensor's values",
            Self::StaleRows => "stale rows",
            Self::RowsExchanged => "rows exchanged",
            Self::LayersExchanged => "layers exchanged",
            Self::Transposed => "transposed",
            Self::InterleavedRope => "q/k permuted for interleaved RoPE",
            Self::HalvedRope => "q/k permuted back, though nothing was permuted",
            Self::NormMinusOne => "norm minus one",
            Self::NormPlusOne => "norm plus one",
            Self::Scaled => "scaled",
            Self::ScaledRows => "scaled rows",
            Self::ScaledColumns => "scaled columns",
            Self::LowRank => "a low-rank difference",
            Self::RowsDiffer => "rows differ",
            Self::Differs => "differs",
            Self::TiedHead => "head tied",
            Self::UntiedHead => "head untied",
            Self::Config => "another config",
        }
    }
}
