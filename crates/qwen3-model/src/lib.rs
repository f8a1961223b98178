//! Qwen3, dense and with experts, on Burn: configuration, layers, KV cache and decoding session.
//!
//! The crate names no backend. A runtime [`Device`](burn::tensor::Device) and an explicit
//! [`DType`](burn::tensor::DType) choose where and in which precision everything runs. It does no
//! file IO: `qwen3-import` reads checkpoints and hands the tensors over through [`WeightSource`].
//!
//! Read in this order: [`Qwen3Config`], [`Qwen3`] (the whole model on one screen), the layers it is
//! made of ([`DecoderLayer`], [`Attention`], [`Mlp`], [`SparseMoeBlock`], [`RmsNorm`]), then [`Session`], which owns the
//! position and the [`KvCache`] while decoding. [`Observer`] is how a caller looks at intermediate
//! tensors.
//!
//! The numerics follow Transformers 5, `models/qwen3/modular_qwen3.py`; each item names its symbol.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod attention;
mod cache;
mod experts;
mod feed_forward;
mod layer;
mod linear;
mod mask;
mod mlp;
mod model;
mod norm;
mod parts;
mod precision;
mod random;
mod rope;
mod session;
mod source;
mod step;
mod tap;
mod vocab;

pub use attention::{AttendOptions, Attention, attend};
pub use cache::{KvCache, LayerCache};
pub use experts::SparseMoeBlock;
pub use feed_forward::FeedForward;
pub use layer::DecoderLayer;
pub use linear::Linear;
pub use mask::causal_bias;
pub use mlp::Mlp;
pub use model::{Qwen3, Qwen3Model};
pub use norm::RmsNorm;
pub use parts::{End, Parts, Streamed};
pub use precision::{burn_dtype, precision_of};
pub use qwen3_config::{
    ConfigError, DeviceMapError, DeviceMapFile, DeviceName, EMBEDDING, Experts, Extent, FeedForwardKind,
    Footprint, HEAD, LayerKind, ModelPart, OFFICIAL_FP8, Official, Precision, Qwen3Config, Reach, Rope, Rows,
    Site, SparseLayers, Tap,
};
pub use qwen3_kernels::Kernel;
pub use random::RandomWeights;
pub use rope::RotaryEmbedding;
pub use session::{Logits, Padding, Prefill, Session, SessionError, SessionOptions};
pub use source::{PlacedSource, WeightSource};
pub use step::{Step, StepPlan};
pub use tap::{Observed, Observer, Taps};
pub use vocab::{MAX_BLOCK_BYTES, VocabMatrix};

/// Which of Burn's devices each part of a model lies on; on another machine, if Burn's remote backend is turned on.
pub type DeviceMap = qwen3_config::DeviceMap<burn::tensor::Device>;
