use crate::Tokenizer;

/// The tokens around a model's reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinkingTokens {
    /// `<think>`.
    pub start: u32,
    /// `</think>`.
    pub end: u32,
    /// `<|im_start|>`, before which a prompt is about earlier turns.
    pub turn: Option<u32>,
}

impl ThinkingTokens {
    /// The tokens of a tokenizer, when it has each as one token; Qwen3's has.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        Some(Self {
            start: tokenizer.id("<think>")?,
            end: tokenizer.id("</think>")?,
            turn: tokenizer.id("<|im_start|>"),
        })
    }
}

/// What a token means for reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingEvent {
    /// The token is `<think>`: what follows is reasoning.
    ThinkingStarted,
    /// The token is `</think>`: what follows is the answer.
    ThinkingEnded,
}

/// Follows a stream of generated tokens in and out of `<think>` blocks.
///
/// A `<think>` within a block and a `</think>` outside of one mean nothing, and there are no events
/// for a tokenizer that has no such tokens.
#[derive(Clone, Debug)]
pub struct ThinkingTracker {
    tokens: Option<ThinkingTokens>,
    thinking: bool,
}

impl ThinkingTracker {
    /// A tracker that begins where `prompt` ends: in an open block when the last turn of the prompt
    /// opens one and does not close it, outside otherwise, as after the empty block with which the
    /// template turns reasoning off.
    pub fn new(tokens: Option<ThinkingTokens>, prompt: &[u32]) -> Self {
        let mut tracker = Self { tokens, thinking: false };
        let turn = tokens.and_then(|tokens| tokens.turn);
        let last = prompt.iter().rposition(|&id| Some(id) == turn).unwrap_or(0);
        for &id in &prompt[last..] {
            tracker.push(id);
        }
        tracker
    }

    /// Takes the next token.
    pub fn push(&mut self, id: u32) -> Option<ThinkingEvent> {
        let tokens = self.tokens?;
        if id == tokens.start && !self.thinking {
            self.thinking = true;
            Some(ThinkingEvent::ThinkingStarted)
        } else if id == tokens.end && self.thinking {
            self.thinking = false;
            Some(ThinkingEvent::ThinkingEnded)
        } else {
            None
        }
    }

    /// Is what comes next reasoning?
    pub fn is_thinking(&self) -> bool {
        self.thinking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: ThinkingTokens = ThinkingTokens { start: 1, end: 2, turn: Some(3) };

    #[test]
    fn events_alternate() {
        let mut tracker = ThinkingTracker::new(Some(TOKENS), &[]);
        let events: Vec<_> = [2, 1, 9, 1, 2, 2, 9].into_iter().map(|id| tracker.push(id)).collect();
        let (started, ended) = (Some(ThinkingEvent::ThinkingStarted), Some(ThinkingEvent::ThinkingEnded));
        assert_eq!(events, [None, started, None, None, ended, None, None]);
    }

    #[test]
    fn prompts_end_in_or_out_of_a_block() {
        let thinking = |prompt: &[u32]| ThinkingTracker::new(Some(TOKENS), prompt).is_thinking();
        assert!(thinking(&[3, 9, 1, 8]));
        assert!(!thinking(&[3, 9, 1, 8, 2, 8]));
        assert!(!thinking(&[3, 1, 9, 3, 9]));
        assert!(!ThinkingTracker::new(None, &[1]).is_thinking());
    }
}
