use std::ops::Range;

use qwen3_config::Tap;

use crate::names::layer_of;

/// The part of a model that is looked at: some of its layers, and the ends that they reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The layers looked at.
    pub layers: Range<usize>,
    /// The model's layers.
    pub of: usize,
}

impl Scope {
    /// The whole model.
    pub fn whole(layers: usize) -> Self {
        Self { layers: 0..layers, of: layers }
    }

    /// The layers that a range such as `3..7`, `3..=6`, `3..`, `..7` or `3` names; `None` when it is no range,
    /// empty, or reaches beyond the last of `layers`.
    pub fn parse(text: &str, layers: usize) -> Option<Self> {
        let number = |part: &str, missing: usize| match part {
            "" => Some(missing),
            part => part.parse::<usize>().ok(),
        };
        let (start, end) = match text.split_once("..") {
            None => number(text, layers).map(|one| (one, one.saturating_add(1)))?,
            Some((first, last)) => {
                let end = match last.strip_prefix('=') {
                    Some(last) => number(last, layers)?.saturating_add(1),
                    None => number(last, layers)?,
                };
                (number(first, 0)?, end)
            }
        };
        let of = layers;
        (start < end && end <= of).then_some(Self { layers: start..end, of })
    }

    /// Is it the whole model?
    pub fn is_whole(&self) -> bool {
        self.layers == (0..self.of)
    }

    /// Does it reach the final norm and the head?
    pub fn has_end(&self) -> bool {
        self.layers.end == self.of
    }

    /// Is the tensor `name` in these layers, or at an end of the model that they reach?
    pub fn contains(&self, name: &str) -> bool {
        match layer_of(name) {
            Some(layer) => self.layers.contains(&layer),
            None if name == Tap::Embedding.name() => self.layers.start == 0,
            None => self.has_end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_layers() {
        let parse = |text| Scope::parse(text, 28).map(|scope| scope.layers);
        assert_eq!(parse("3..7"), Some(3..7));
        assert_eq!(parse("3..=6"), Some(3..7));
        assert_eq!(parse("3.."), Some(3..28));
        assert_eq!(parse("..7"), Some(0..7));
        assert_eq!(parse(".."), Some(0..28));
        assert_eq!(parse("3"), Some(3..4));
        for none in ["7..3", "3..3", "0..29", "28", "x", "", "3..x", "..=28", "-1"] {
            assert_eq!(parse(none), None, "{none}");
        }
        let from_three = Scope::parse("3..", 28).unwrap();
        assert!(from_three.contains("logits") && !from_three.contains("embedding_output"));
        assert!(from_three.contains("layer_03.mlp") && !from_three.contains("layer_02_output"));
    }
}
