use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_config::Rope;

use crate::norm::to_dtype;

/// Rotary position embedding that rotates halves: feature `i` pairs with `i + head_dim / 2`.
///
/// Follows Transformers `Qwen3RotaryEmbedding` and `apply_rotary_pos_emb`, but angles are computed in
/// f64 and stored as f32 (Transformers multiplies in f32, which is off by 1e-3 rad near position
/// 40,000). Angles are computed for the positions asked for, so nothing grows with the context.
#[derive(Clone, Debug)]
pub struct RotaryEmbedding {
    /// In radians per token; `head_dim / 2` of them.
    inverse_frequencies: Vec<f64>,
    /// What cosines and sines are multiplied by.
    factor: f64,
}

impl RotaryEmbedding {
    /// The frequencies of `rope` for heads of `head_dim` features (even).
    pub fn new(head_dim: usize, rope: &Rope) -> Self {
        Self { inverse_frequencies: rope.inverse_frequencies(head_dim), factor: rope.attention_factor() }
    }

    /// Cosines and sines for absolute token `positions`, each row-major
    /// `[positions.len(), head_dim / 2]`. Transformers' tables are these rows written twice.
    pub fn tables(&self, positions: impl Iterator<Item = usize>) -> (Vec<f32>, Vec<f32>) {
        positions
            .flat_map(|position| {
                self.inverse_frequencies.iter().map(move |frequency| {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    ((cos * self.factor) as f32, (sin * self.factor) as f32)
                })
            })
            .unzip()
    }

    /// [`tables`](Self::tables) for `[batch, seq]` positions.
    pub(crate) fn of_rows(&self, positions: &[Vec<usize>]) -> Tables {
        let (batch, seq) = (positions.len(), positions[0].len());
        let (cos, sin) = self.tables(positions.iter().flatten().copied());
        Tables { cos, sin, shape: [batch, 1, seq, self.inverse_frequencies.len()] }
    }
}

/// Cosines and sines on the host, from where each device is given its own: they never move between devices.
#[derive(Debug)]
pub(crate) struct Tables {
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// `[batch, 1, seq, head_dim / 2]`
    shape: [usize; 4],
}

impl Tables {
    /// Cosines and sines as f32 tensors `[batch, 1, seq, head_dim / 2]` on `device`.
    pub(crate) fn on(&self, device: &Device) -> (Tensor<4>, Tensor<4>) {
        let tensor = |table: &Vec<f32>| {
            Tensor::from_data(TensorData::new(table.clone(), self.shape), (device, DType::F32))
        };
        (tensor(&self.cos), tensor(&self.sin))
    }
}

/// Rotates `x` `[batch, heads, seq, head_dim]` by the angles of `cos` and `sin`
/// `[batch, 1, seq, head_dim / 2]`. Computed in f32; the dtype of `x` comes back.
pub(crate) fn rotate(x: Tensor<4>, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let dtype = x.dtype();
    let [batch, heads, seq, head_dim] = x.dims();
    let half = head_dim / 2;
    let x = to_dtype(x, DType::F32);
    let low = x.clone().slice([0..batch, 0..heads, 0..seq, 0..half]);
    let high = x.slice([0..batch, 0..heads, 0..seq, half..head_dim]);
    let rotated = Tensor::cat(
        vec![low.clone() * cos.clone() - high.clone() * sin.clone(), high * cos.clone() + low * sin.clone()],
        3,
    ); // [batch, heads, seq, head_dim]
    to_dtype(rotated, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_are_exact_at_a_far_position() {
        let rope = RotaryEmbedding::new(4, &Rope::Default { theta: 1e6 });
        let (cos, sin) = rope.tables([32_768].into_iter());
        let angles = [32_768.0_f64, 32_768.0 * 1e6_f64.powf(-0.5)];
        assert_eq!(cos, angles.map(|a| a.cos() as f32));
        assert_eq!(sin, angles.map(|a| a.sin() as f32));
    }
}
