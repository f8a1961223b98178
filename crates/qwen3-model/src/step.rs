use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::RotaryEmbedding;

/// Added to the score of a key that a query may not see. Finite, so that a query that sees nothing
/// (padding) gets uniform weights and not NaN; large enough that `exp` gives exactly zero.
const HIDDEN: f32 = f32::MIN / 2.0;

/// What one pass needs to know besides the tokens: where they stand and what they may see.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) cos: Tensor<4>,
    pub(crate) sin: Tensor<4>,
    /// `[batch or 1, 1, 1, seq, keys]`, or `None` when every query sees every key.
    pub(crate) bias: Option<Tensor<5>>,
    /// First slot that the tokens occupy in the cache.
    pub(crate) start: usize,
    /// How many slots are attended to.
    pub(crate) keys: usize,
}

impl Step {
    /// A pass over `[batch, seq]` tokens at absolute `positions`, occupying the key slots from
    /// `start`, attending to the first `keys` slots.
    ///
    /// Token `i` sees slot `j` when `j <= start + i` and `visible[row][j]`; `visible` has at least
    /// `start + seq` entries a row and is false at padding. Positions feed RoPE only; what is seen
    /// goes by slots.
    ///
    /// # Panics
    /// When the rows are ragged or `keys < start + seq`.
    pub fn new(
        rope: &RotaryEmbedding,
        positions: &[Vec<usize>],
        visible: &[Vec<bool>],
        start: usize,
        keys: usize,
        device: &Device,
    ) -> Self {
        let seq = positions[0].len();
        assert!(
            positions.iter().all(|row| row.len() == seq) && keys >= start + seq,
            "{} rows of {seq} tokens from slot {start} do not fit {keys} keys",
            positions.len()
        );
        let (cos, sin) = rope.tensors(positions, device);
        Self {
            cos,
            sin,
            bias: causal_bias(visible, start, seq, keys, device),
            start,
            keys,
        }
    }

    /// A pass without a cache: the tokens see themselves and what is before them.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn uncached(
        rope: &RotaryEmbedding,
        positions: &[Vec<usize>],
        visible: &[Vec<bool>],
        device: &Device,
    ) -> Self {
        Self::new(rope, positions, visible, 0, positions[0].len(), device)
    }

    /// The same pass on another device.
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        Self {
            cos: self.cos.clone().to_device(device),
            sin: self.sin.clone().to_device(device),
            bias: self.bias.clone().map(|bias| bias.to_device(device)),
            ..*self
        }
    }
}

/// What is added to the scores of `seq` queries that stand in the slots from `start`, over the first
/// `keys` slots: f32 `[batch or 1, 1, 1, seq, keys]`, or `None` when every query sees every key.
///
/// Query `i` sees slot `j` when `j <= start + i` and `visible[row][j]`.
///
/// # Panics
/// When a row of `visible` has less than `start + seq` entries or `keys < start + seq`.
pub fn causal_bias(
    visible: &[Vec<bool>],
    start: usize,
    seq: usize,
    keys: usize,
    device: &Device,
) -> Option<Tensor<5>> {
    assert!(
        keys >= start + seq,
        "{seq} queries from slot {start} do not fit {keys} keys"
    );
    let (rows, bias) = attention_bias(visible, start, seq, keys)?;
    let data = TensorData::new(bias, [rows, 1, 1, seq, keys]);
    Some(Tensor::from_data(data, (device, DType::F32)))
}

/// The additive mask, row-major `[rows, seq, keys]`; one row serves the batch when nothing is padded.
fn attention_bias(
    visible: &[Vec<bool>],
    start: usize,
    seq: usize,
    keys: usize,
) -> Option<(usize, Vec<f32>)> {
    let end = start + seq;
    let padded = visible.iter().any(|row| row[..end].contains(&false));
    if !padded && seq == 1 && keys == end {
        return None;
    }
    let rows = if padded { visible.len() } else { 1 };
    let mut bias = Vec::with_capacity(rows * seq * keys);
    for row in &visible[..rows] {
        for query in start..end {
            bias.extend((0..keys).map(|key| match key <= query && row[key] {
                true => 0.0,
                false => HIDDEN,
            }));
        }
    }
    Some((rows, bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_is_causal_and_hides_padding_and_the_unused_tail() {
        let visible = [vec![true; 3], vec![false, true, true]];
        let (rows, bias) = attention_bias(&visible, 1, 2, 4).unwrap();
        let seen = bias.iter().map(|b| u8::from(*b == 0.0)).collect::<Vec<_>>();
        assert_eq!(rows, 2);
        assert_eq!(seen, [1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_single_query_that_sees_everything_needs_no_mask() {
        assert!(attention_bias(&[vec![true; 5]], 4, 1, 5).is_none());
        assert!(attention_bias(&[vec![true; 5]], 4, 1, 6).is_some());
    }
}
