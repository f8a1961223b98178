//! Mistakes in how steps use a cache: the prompt is right, and what comes behind it is not.

use qwen3_config::Rows;

use crate::hypothesis::Hypothesis;

/// What the tokens from one on, which are read one after the other, do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheUse {
    /// The first of these tokens in a row.
    pub from: usize,
    /// What they do wrong.
    pub mistake: CacheMistake,
}

/// What a step may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMistake {
    /// Nothing.
    None,
    /// Its key and value are written a slot late, or early; are they found there by later steps, too?
    Shifted { late: bool, stays: bool },
    /// Those of earlier steps are missing: are there zeros in their slots, and does a step see its own?
    NotWritten { zeros: bool, own: bool },
    /// There are so many slots: a step sees the last of them, or but for its own the first.
    Ring { slots: usize, first: bool },
    /// It reads the cache of the next row, or of the first.
    OtherRow { first: bool },
    /// It sees padding.
    Padding,
    /// Cached keys are not rotated; nor is its own?
    Unrotated { own: bool },
    /// Cached keys are rotated twice; is its own?
    Twice { own: bool },
    /// Positions begin again at 0.
    Restart,
    /// Every step stands at position 0.
    Standstill,
    /// Positions are slots, padding counted.
    CountsPadding,
    /// It stands so many positions from where it should.
    Offset(i64),
    /// It does not see its own key.
    HidesSelf,
}

/// A key that a query sees, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// That of a token of a row.
    Token { row: usize, token: usize, turns: Turns },
    /// Zeros, where nothing was written.
    Empty,
}

/// How often a key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    None,
    Once,
    Twice,
}

impl CacheUse {
    /// What is right where tokens from one on are read one after the other.
    pub fn right(from: usize) -> Self {
        Self { from, mistake: CacheMistake::None }
    }

    /// That steps do so.
    fn hypothesis(self, id: &'static str, words: &str) -> Hypothesis {
        Hypothesis::new(id, words, move |v| v.cached = Some(self))
    }

    /// The position of a token, which is `right`.
    pub fn position(self, token: usize, right: usize) -> i64 {
        let right_or = |wrong: usize| if token < self.from { right } else { wrong } as i64;
        match self.mistake {
            CacheMistake::Restart => right_or(token.saturating_sub(self.from)),
            CacheMistake::Standstill => right_or(0),
            CacheMistake::CountsPadding => right_or(token),
            CacheMistake::Offset(by) if token >= self.from => right as i64 + by,
            _ => right as i64,
        }
    }

    /// What `query` of a row sees, which should be `right`, tokens of that row; `None` where it is of the prompt.
    pub fn slots(self, rows: &Rows, row: usize, query: usize, right: &[usize]) -> Option<Vec<Slot>> {
        if query < self.from {
            return None;
        }
        let from = self.from;
        let once = |token: usize| Slot::Token { row, token, turns: Turns::Once };
        let keep = |kept: &dyn Fn(usize) -> bool| -> Vec<Slot> {
            right.iter().copied().filter(|token| kept(*token)).map(once).collect()
        };
        let empty = |mut slots: Vec<Slot>, count: usize| {
            slots.extend(std::iter::repeat_n(Slot::Empty, count));
            slots
        };
        let turned = |turns: Turns, own: bool| {
            let turns = |token: usize| if token < query || own { turns } else { Turns::Once };
            right.iter().map(|token| Slot::Token { row, token: *token, turns: turns(*token) }).collect()
        };
        Some(match self.mistake {
            // Its own key is behind the last slot that it sees.
            CacheMistake::Shifted { late: true, .. } => empty(keep(&|token| token != query), 1),
            CacheMistake::Shifted { late: false, stays } => {
                let lost = if stays { from } else { query } - 1;
                empty(keep(&|token| token != lost), 1)
            }
            CacheMistake::NotWritten { zeros, own } => {
                let kept = keep(&|token| token < from || (own && token == query));
                empty(kept, if zeros { query - from + usize::from(!own) } else { 0 })
            }
            CacheMistake::Ring { slots, first: false } => keep(&|token| token + slots > query),
            CacheMistake::Ring { slots, first: true } => keep(&|token| token + 1 < slots || token == query),
            CacheMistake::OtherRow { first } => {
                let other = if first { 0 } else { (row + 1) % rows.dims()[0] };
                let of = |token: usize| if token == query { row } else { other };
                let slot = |token: &usize| Slot::Token { row: of(*token), token: *token, turns: Turns::Once };
                right.iter().map(slot).collect()
            }
            CacheMistake::Padding => {
                let first = right.first().copied().unwrap_or(query);
                let padding = (0..first).filter(|token| !rows.visible[row][*token]);
                padding.chain(right.iter().copied()).map(once).collect()
            }
            CacheMistake::Unrotated { own } => turned(Turns::None, own),
            CacheMistake::Twice { own } => turned(Turns::Twice, own),
            CacheMistake::HidesSelf => keep(&|token| token != query),
            _ => return None,
        })
    }
}

/// The mistakes that steps behind `from` tokens of these rows may make, the likeliest first: generated ids alone may be
/// consistent with several.
pub fn of_steps(rows: &Rows, from: usize) -> Vec<Hypothesis> {
    let [batch, _] = rows.dims();
    let with = |id, words: &str, mistake| CacheUse { from, mistake }.hypothesis(id, words);
    let mut list = Vec::new();
    for by in OFFSETS {
        let words = format!("cached steps stand {by:+} positions from where they should");
        list.push(with("rope_position_offset", &words, CacheMistake::Offset(by)));
    }
    list.push(with(
        "cached_mask_off_by_one",
        "the mask of cached steps is one short: they do not see their own token",
        CacheMistake::HidesSelf,
    ));
    for (late, stays, words) in [
        (false, true, "cached steps are written one slot early, over the prompt's last token"),
        (false, false, "each cached step is written one slot early, over the token before it"),
        (true, true, "cached steps are written one slot late, behind what they see"),
    ] {
        list.push(with("cache_slot_off_by_one", words, CacheMistake::Shifted { late, stays }));
    }
    for (zeros, own, words) in [
        (false, true, "cached steps see the prompt and themselves: earlier steps are not in the cache"),
        (true, true, "the slots of earlier steps are empty"),
        (true, false, "the slots of cached steps, their own too, are empty"),
        (false, false, "cached steps see the prompt alone"),
    ] {
        list.push(with("cache_not_written", words, CacheMistake::NotWritten { zeros, own }));
    }
    list.push(with("position_restarts", "cached steps count positions from 0 again", CacheMistake::Restart));
    list.push(with("position_restarts", "every cached step stands at position 0", CacheMistake::Standstill));
    if rows.visible.concat().contains(&false) {
        let words = "positions of cached steps count padding";
        list.push(with("position_counts_padding", words, CacheMistake::CountsPadding));
        list.push(with("padding_visible", "cached steps see padding", CacheMistake::Padding));
    }
    if batch > 1 {
        let words = "cached steps read the cache of the next sequence";
        list.push(with("cache_of_other_sequence", words, CacheMistake::OtherRow { first: false }));
        let words = "cached steps read the cache of the first sequence";
        list.push(with("cache_of_other_sequence", words, CacheMistake::OtherRow { first: true }));
    }
    for (own, words) in [
        (false, "cached keys are not rotated"),
        (true, "cached keys and those of cached steps themselves are not rotated"),
    ] {
        list.push(with("keys_cached_before_rope", words, CacheMistake::Unrotated { own }));
    }
    for (own, words) in [
        (false, "cached keys are rotated twice"),
        (true, "cached keys and those of cached steps themselves are rotated twice"),
    ] {
        list.push(with("keys_rotated_twice", words, CacheMistake::Twice { own }));
    }
    list
}

/// Caches with too few slots for the tokens of these rows, the largest first.
pub fn of_full_caches(rows: &Rows, from: usize) -> Vec<Hypothesis> {
    let [_, seq] = rows.dims();
    let with = |id, words: &str, mistake| CacheUse { from, mistake }.hypothesis(id, words);
    let mut list = Vec::new();
    // A small one may be of any size; others are filled behind the prompt, or round.
    let sizes = (1..seq).rev().filter(|size| *size <= 64 || *size >= from || *size % 64 == 0);
    for slots in sizes {
        let words = format!("the cache has {slots} slots: older tokens are overwritten");
        list.push(with("cache_overwritten", &words, CacheMistake::Ring { slots, first: false }));
        // With room for one token behind the prompt, it is one of those that are not written.
        if slots != from + 1 {
            let words = format!("the cache has {slots} slots, of which the last is overwritten");
            list.push(with("cache_overwritten", &words, CacheMistake::Ring { slots, first: true }));
        }
    }
    list
}

/// Positions that steps may be off by.
const OFFSETS: [i64; 8] = [1, -1, 2, -2, 3, -3, 4, -4];

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of 4 tokens, the first of the second padding, and two steps.
    fn rows() -> Rows {
        let second = vec![false, true, true, true, true, true];
        Rows::of_mask(vec![vec![true; 6], second])
    }

    /// What the second step of the first row sees, as text.
    fn seen(mistake: CacheMistake) -> String {
        let right: Vec<usize> = (0..6).collect();
        let slots = CacheUse { from: 4, mistake }.slots(&rows(), 0, 5, &right).unwrap();
        let name = |slot: &Slot| match slot {
            Slot::Empty => "-".to_string(),
            Slot::Token { row, token, turns } => {
                let turns = match turns {
                    Turns::None => "n",
                    Turns::Once => "",
                    Turns::Twice => "t",
                };
                format!("{}{token}{turns}", if *row == 0 { "" } else { "r" })
            }
        };
        slots.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn steps_see_what_a_mistake_leaves() {
        use CacheMistake::*;
        for (mistake, expected) in [
            (Shifted { late: false, stays: true }, "0 1 2 4 5 -"),
            (Shifted { late: false, stays: false }, "0 1 2 3 5 -"),
            (Shifted { late: true, stays: true }, "0 1 2 3 4 -"),
            (NotWritten { zeros: false, own: true }, "0 1 2 3 5"),
            (NotWritten { zeros: true, own: true }, "0 1 2 3 5 -"),
            (NotWritten { zeros: true, own: false }, "0 1 2 3 - -"),
            (Ring { slots: 3, first: false }, "3 4 5"),
            (Ring { slots: 3, first: true }, "0 1 5"),
            (OtherRow { first: false }, "r0 r1 r2 r3 r4 5"),
            (Unrotated { own: false }, "0n 1n 2n 3n 4n 5"),
            (Twice { own: true }, "0t 1t 2t 3t 4t 5t"),
            (HidesSelf, "0 1 2 3 4"),
        ] {
            assert_eq!(seen(mistake), expected, "{mistake:?}");
        }
        let padded = CacheUse { from: 4, mistake: Padding }.slots(&rows(), 1, 4, &[1, 2, 3, 4]).unwrap();
        assert_eq!(padded.len(), 5);
        assert_eq!(
            CacheUse { from: 4, mistake: HidesSelf }.slots(&rows(), 0, 3, &[0, 1, 2, 3]),
            Option::None
        );
    }

    #[test]
    fn steps_stand_where_a_mistake_puts_them() {
        let position = |mistake, token, right| CacheUse { from: 4, mistake }.position(token, right);
        for (mistake, expected) in [
            (CacheMistake::Restart, 1),
            (CacheMistake::Standstill, 0),
            (CacheMistake::CountsPadding, 5),
            (CacheMistake::Offset(-2), 2),
            (CacheMistake::Padding, 4),
        ] {
            assert_eq!(position(mistake, 5, 4), expected, "{mistake:?}");
            assert_eq!(position(mistake, 3, 2), 2, "{mistake:?}");
        }
    }
}
