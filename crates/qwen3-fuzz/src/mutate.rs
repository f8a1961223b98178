//! From good bytes to bad ones, each with a few words about what was done.

pub mod bytes;
pub mod file;
pub mod gguf;
pub mod json;
pub mod npy;
pub mod pickle;
pub mod record;
pub mod safetensors;
pub mod template;
pub mod tokenizer;
pub mod zip;
