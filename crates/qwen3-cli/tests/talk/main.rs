//! Prompts, conversations and the chat, as somebody at a terminal or in a script meets them.
#![cfg(all(feature = "flex", unix))]

mod common;
mod prompts;
