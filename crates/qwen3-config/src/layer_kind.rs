use crate::Experts;

/// What a decoder layer is made of; layers of a model may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// How far back its attention looks.
    pub reach: Reach,
    /// Its feed-forward block.
    pub feed_forward: FeedForwardKind,
}

/// How far back a query looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the first token.
    All,
    /// Over this many tokens, its own included.
    Window(usize),
}

impl Reach {
    /// Does a query see a key in or before its own place, `distance` tokens back?
    ///
    /// Follows Transformers `sliding_window_overlay`: `query - key < window`.
    pub fn sees(self, distance: usize) -> bool {
        match self {
            Self::All => true,
            Self::Window(window) => distance < window,
        }
    }

    /// How many tokens are kept in the cache of a sequence that has room for `capacity`, written at most `chunk` at a
    /// time: with a window, what the next query sees beside itself, and a chunk.
    pub fn slots(self, capacity: usize, chunk: usize) -> usize {
        match self {
            Self::All => capacity,
            Self::Window(window) => capacity.min((window - 1).saturating_add(chunk)),
        }
    }
}

/// The kinds of feed-forward blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForwardKind {
    /// One block that every token passes through.
    Dense {
        /// Features inside the block.
        intermediate_size: usize,
    },
    /// Experts, of which every token passes through some.
    Sparse(Experts),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_the_query_itself() {
        let seen = |reach: Reach| (0..5).filter(|distance| reach.sees(*distance)).count();
        assert_eq!((seen(Reach::All), seen(Reach::Window(3)), seen(Reach::Window(1))), (5, 3, 1));
    }
}
