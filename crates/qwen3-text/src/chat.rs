//! Conversations, and the Jinja template that turns one into a prompt.

mod bounded;
mod budget;
mod engine;
mod environment;
mod filters;
mod guard;
mod json;
mod message;
mod methods;
mod python;
mod source;
mod template;

pub use json::parse_json;
pub use message::{Conversation, Message};
pub use template::{ChatTemplate, RenderOptions};
