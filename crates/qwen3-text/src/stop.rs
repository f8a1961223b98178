use crate::TextError;

/// Looks for stop strings in text that comes in pieces.
///
/// Text that may turn out to be the beginning of a stop string is held back until that is known. The
/// first stop string to be complete ends the text; of several that are complete at the same character,
/// the one that began first, so the pieces that a text comes in do not matter.
///
/// ```
/// # fn main() -> Result<(), qwen3_text::TextError> {
/// use qwen3_text::StopMatcher;
/// let mut matcher = StopMatcher::new(["END"])?;
/// assert_eq!(matcher.push("the E").text, "the "); // the rest may become a stop string
/// assert_eq!(matcher.push("nd").text, "End");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    matched: Option<usize>,
}

/// What a piece of text led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopMatch {
    /// Text that is certainly not part of a stop string, in the order it came.
    pub text: String,
    /// Index of the stop string that ended the text, with this piece or an earlier one.
    pub matched: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these strings, case and all. With none, text passes through at once.
    ///
    /// # Errors
    /// [`TextError::Option`] when a string is empty.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, TextError> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        if stops.iter().any(String::is_empty) {
            return Err(TextError::Option {
                option: "stop",
                value: "\"\"".into(),
                reason: "a stop string is not empty",
            });
        }
        Ok(Self { stops, held: String::new(), matched: None })
    }

    /// The stop strings.
    pub fn stops(&self) -> &[String] {
        &self.stops
    }

    /// Takes the next piece. After a match, all further text is dropped.
    pub fn push(&mut self, piece: &str) -> StopMatch {
        if self.matched.is_some() {
            return self.result(String::new());
        }
        self.held.push_str(piece);
        let found = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        if let Some((_, start, index)) = found.min() {
            self.matched = Some(index);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return self.result(text);
        }
        let released = self.held.len() - self.undecided();
        let text = self.held.drain(..released).collect();
        self.result(text)
    }

    /// The end of the text: what was held back and turned out to be no stop string. The matcher can
    /// then be used for another text.
    pub fn finish(&mut self) -> String {
        self.matched = None;
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that a stop string may begin with.
    fn undecided(&self) -> usize {
        let held = self.held.as_str();
        let longest = self.stops.iter().map(|stop| {
            let starts = stop.char_indices().map(|(at, _)| at).rev();
            starts.take_while(|&at| at > 0).find(|&at| held.ends_with(&stop[..at])).unwrap_or(0)
        });
        longest.max().unwrap_or(0)
    }

    fn result(&self, text: String) -> StopMatch {
        StopMatch { text, matched: self.matched }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking at every prefix of the whole text.
    fn naive(text: &str, stops: &[String]) -> (String, Option<usize>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let complete = stops.iter().enumerate().filter(|(_, stop)| text[..end].ends_with(*stop));
            let first = complete.min_by_key(|(index, stop)| (end - stop.len(), *index));
            if let Some((index, stop)) = first {
                return (text[..end - stop.len()].into(), Some(index));
            }
        }
        (text.into(), None)
    }

    #[test]
    fn holds_back_no_more_than_needed() {
        let mut matcher = StopMatcher::new(["</s>", "é!"]).unwrap();
        let passed = |text: &str| StopMatch { text: text.into(), matched: None };
        assert_eq!(matcher.push("a<"), passed("a"));
        assert_eq!(matcher.push("</"), passed("<"));
        assert_eq!(matcher.push("x é"), passed("</x "));
        assert_eq!(matcher.push("!tail"), StopMatch { text: "".into(), matched: Some(1) });
        assert_eq!(matcher.push("more").text, "");
        assert_eq!(matcher.finish(), "");
        assert_eq!(matcher.push("</s"), passed(""));
        assert_eq!(matcher.finish(), "</s");
        assert!(StopMatcher::new([""]).is_err());
        assert_eq!(StopMatcher::new([""; 0]).unwrap().push("x").text, "x");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec("[abé]{0,4}", 0..8),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let mut matcher = StopMatcher::new(stops.clone()).unwrap();
            let mut text = String::new();
            let mut matched = None;
            for piece in &pieces {
                let step = matcher.push(piece);
                text += &step.text;
                matched = step.matched;
            }
            text += &matcher.finish();
            prop_assert_eq!((text, matched), naive(&pieces.concat(), &stops));
        }
    }
}
