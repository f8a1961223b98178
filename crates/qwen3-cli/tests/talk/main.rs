//! Prompts, conversations and the chat, as somebody at a terminal or in a script meets them.
#![cfg(all(feature = "flex", unix))]

mod chat;
mod common;
mod prompts;
mod terminal;
mod typed;
