//! CPU kernels for Qwen3 on plain slices: products with weights as the checkpoint has them, attention straight from
//! a key/value cache, norms, SwiGLU and RoPE, in f32, bf16 and f16.
//!
//! [`Kernels`] is the front: it holds an [`InstructionSet`], chosen while the program runs, and [`Threads`]. Every
//! sum is accumulated in f32. [`limits`] measures what the machine could do, and [`HugeBuffer`] is memory that is
//! read faster.
//!
//! Unsafe code is in three places, each behind safe functions: `isa` (vector instructions), `threads/pool.rs` (one
//! closure lent to threads that outlive it) and `block.rs` (blocks of a matrix written by several threads).
#![deny(missing_docs)]
#![deny(unsafe_code)]
// Iterators are not inlined into functions of another instruction set, and then cost several times the work.
#![allow(clippy::needless_range_loop)]

mod attention;
mod block;
mod element;
mod instruction_set;
mod isa;
mod kernels;
pub mod limits;
mod matmul;
mod norm;
mod pages;
mod rope;
mod scratch;
mod swiglu;
mod threads;

pub use attention::{Attention, View};
pub use element::Element;
pub use instruction_set::InstructionSet;
pub use kernels::Kernels;
pub use matmul::Matrix;
pub use pages::{HugeBuffer, Pages};
pub use rope::{Heads, RopeRounding, Rows};
pub use threads::Threads;
