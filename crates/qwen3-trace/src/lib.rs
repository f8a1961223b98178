//! What passes through a Qwen3 model, in files, and whether it is right.
//!
//! [`TensorFile`] reads safetensors, NumPy's and PyTorch's files. A [`Reference`] is what should come out of a
//! prompt, a [`Trace`] what did; [`Judge`] compares them tensor by tensor within [`Limits`], and gives
//! [`Verdicts`]. A tensor is judged here and nowhere else. The crate needs no tensor library.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod backend;
pub mod consensus;
mod error;
mod figure;
mod generated;
mod ids;
mod judge;
mod layout;
mod limits;
pub mod logits;
pub mod metrics;
mod mode;
pub mod names;
mod naming;
mod preset;
mod printable;
mod readings;
mod recorder;
mod reference;
mod scope;
mod size;
mod source;
mod step;
mod stored_floors;
mod tensor_file;
mod tensor_limit;
mod token_texts;
pub mod tokens;
mod tolerance;
mod trace;
mod trace_writer;
mod unread;
mod verdict;
mod verdicts;

pub use backend::{Backend, Switches};
pub use error::TraceError;
pub use figure::figure;
pub use generated::generated_ids;
pub use ids::{judge_generated, judge_greedy};
pub use judge::Judge;
pub use limits::{Limits, TokenFloors};
pub use metrics::{Floor, Limit};
pub use mode::Mode;
pub use naming::Names;
pub use preset::Preset;
pub use printable::{printable, printable_lines, printable_text};
pub use qwen3_config::{Kernels, Precision, Rows, Site, Tap};
pub use readings::Taken;
pub use recorder::Recorder;
pub use reference::Reference;
pub use scope::Scope;
pub use step::{StepExpectation, StepLimit};
pub use tensor_file::{Array, TensorFile, Values};
pub use tensor_limit::TensorLimit;
pub use token_texts::TokenTexts;
pub use tokens::TokenVerdict;
pub use tolerance::Tolerance;
pub use trace::Trace;
pub use trace_writer::TraceWriter;
pub use unread::{ignored, meant};
pub use verdict::{Compared, NOT_FINITE, Verdict};
pub use verdicts::{LayerVerdict, Neighbours, StepVerdict, Verdicts};
