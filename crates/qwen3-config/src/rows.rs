/// The tokens of a pass over a batch: where each stands, and what there is to be seen.
///
/// Sequences of unequal length are padded on the left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Absolute token indices within each sequence, `[batch][seq]`; those of padding do not matter.
    pub positions: Vec<Vec<usize>>,
    /// Whether a slot holds a token, and not padding: `[batch][slots]`. The last `seq` slots are those of the
    /// tokens of the pass, those before them are cached; without a cache there are as many slots as tokens.
    pub visible: Vec<Vec<bool>>,
}

impl Rows {
    /// `batch` sequences of `seq` tokens without padding.
    pub fn unpadded(batch: usize, seq: usize) -> Self {
        Self { positions: vec![(0..seq).collect(); batch], visible: vec![vec![true; seq]; batch] }
    }

    /// The tokens of a mask: positions are counted without padding.
    pub fn of_mask(visible: Vec<Vec<bool>>) -> Self {
        let positions = |row: &Vec<bool>| {
            let next = |next: &mut usize, seen: &bool| {
                let position = *next;
                *next += usize::from(*seen);
                Some(position)
            };
            row.iter().scan(0, next).collect()
        };
        Self { positions: visible.iter().map(positions).collect(), visible }
    }

    /// `[batch, seq]`
    pub fn dims(&self) -> [usize; 2] {
        [self.positions.len(), self.positions[0].len()]
    }

    /// How many tokens sequence `row` has, padding not counted.
    pub fn tokens(&self, row: usize) -> usize {
        self.visible[row].iter().filter(|seen| **seen).count()
    }

    /// Does the element at flat `index` of a tensor of `shape`, whose first axis is the batch and whose `axis`
    /// is the sequence, belong to a token?
    pub fn is_token(&self, shape: &[usize], axis: usize, index: usize) -> bool {
        let [row, token] = Self::token_of(shape, axis, index);
        self.visible[row][token]
    }

    /// The values of such a tensor that belong to tokens.
    pub fn without_padding(&self, shape: &[usize], axis: usize, values: &[f64]) -> Vec<f64> {
        let kept = values.iter().enumerate().filter(|(index, _)| self.is_token(shape, axis, *index));
        kept.map(|(_, value)| *value).collect()
    }

    /// The sequence and the place in it, `[row, token]`, of the element at flat `index` of such a tensor.
    pub fn token_of(shape: &[usize], axis: usize, index: usize) -> [usize; 2] {
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[1..].iter().product();
        [index / outer, index / inner % shape[axis]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_has_no_position_of_its_own() {
        let rows = Rows::of_mask(vec![vec![false, true, true], vec![true; 3]]);
        assert_eq!(rows.positions, [[0, 0, 1], [0, 1, 2]]);
        assert_eq!((rows.dims(), rows.tokens(0)), ([2, 3], 2));
        let heads_first = [2, 2, 3, 2];
        let seen = (0..12).filter(|index| rows.is_token(&heads_first, 2, *index));
        assert_eq!(seen.collect::<Vec<_>>(), [2, 3, 4, 5, 8, 9, 10, 11]);
    }
}
