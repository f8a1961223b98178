use crate::{HEAD, Qwen3Config};

/// How much of a model is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it: tokens to logits.
    #[default]
    Whole,
    /// All but an untied head, which may be there or not: tokens to hidden states, as for embedding.
    Encoder,
}

impl Extent {
    /// All of a model that has a head, or what there is of one that has none.
    pub fn of(has_head: bool) -> Self {
        if has_head { Self::Whole } else { Self::Encoder }
    }

    /// Is the tensor `key` part of it, where the model has one of that name?
    pub fn holds(self, key: &str) -> bool {
        self == Self::Whole || key != HEAD
    }

    /// The parameters that it has of a model of `config`, a tied head counted once; `usize::MAX` when there are more.
    pub fn parameters(self, config: &Qwen3Config) -> usize {
        let head = !self.holds(HEAD) && !config.tie_word_embeddings;
        config.num_parameters() - if head { config.vocabulary_parameters() } else { 0 }
    }
}
