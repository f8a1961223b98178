//! Formats that an implementation holds some of its values in while it computes in f32 otherwise.

use half::{bf16, f16};

/// What a value is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Half precision.
    F16,
    /// The upper half of f32.
    Bf16,
    /// ggml's blocks of 32 values of 8 bits, with a scale in f16.
    Q8(Nearest),
    /// ggml's blocks of 32 values of 4 bits, with a scale in f16.
    Q4,
    /// ggml's blocks of 256 values of 8 bits, with a scale in f32.
    Q8K,
}

/// How ggml finds the nearest step of a block of eight bits: its code is another for each kind of processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// `quantize_row_q8_0_ref`: halves away from zero, by the reciprocal of the step; so are weights quantised.
    Reference,
    /// With AVX: halves to even, by 127 over the largest.
    Avx,
    /// With NEON: halves to even, by the reciprocal of the step.
    Neon,
}

impl Nearest {
    /// All.
    pub const ALL: [Self; 3] = [Self::Reference, Self::Avx, Self::Neon];
}

/// Values of a block.
const BLOCK: usize = 32;
/// Values of a block of the formats with a K.
const BLOCK_K: usize = 256;

impl Format {
    /// The name that its users know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8(_) => "q8_0",
            Self::Q4 => "q4_0",
            Self::Q8K => "q8_k",
        }
    }

    /// One value, which must not be of a format in blocks.
    fn value(self, x: f64) -> f64 {
        match self {
            Self::F16 => f16::from_f32(x as f32).to_f64(),
            Self::Bf16 => bf16::from_f32(x as f32).to_f64(),
            Self::Q8(_) | Self::Q4 | Self::Q8K => unreachable!("blocks are rounded together"),
        }
    }

    /// Rounds a row, in blocks where the format has them (ggml's `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref` and
    /// `quantize_row_q8_K_ref`).
    pub fn round(self, row: &mut [f64]) {
        match self {
            Self::F16 | Self::Bf16 => row.iter_mut().for_each(|x| *x = self.value(*x)),
            Self::Q8(nearest) => row.chunks_mut(BLOCK).for_each(|block| eight_bits(block, nearest)),
            Self::Q4 => row.chunks_mut(BLOCK).for_each(four_bits),
            Self::Q8K => row.chunks_mut(BLOCK_K).for_each(eight_bits_k),
        }
    }
}

fn eight_bits(block: &mut [f64], nearest: Nearest) {
    let largest = largest(block).abs();
    let scale = largest / 127.0;
    let inverse = match nearest {
        _ if scale == 0.0 => 0.0,
        Nearest::Avx => 127.0 / largest,
        Nearest::Reference | Nearest::Neon => 1.0 / scale,
    };
    let scale = f16::from_f32(scale).to_f32();
    block.iter_mut().for_each(|x| {
        let steps = *x as f32 * inverse;
        let steps = if nearest == Nearest::Reference { steps.round() } else { steps.round_ties_even() };
        *x = f64::from(steps * scale);
    });
}

/// The value with the largest magnitude, the first of several.
fn largest(block: &[f64]) -> f32 {
    let larger = |largest: f32, x: &f64| if (*x as f32).abs() > largest.abs() { *x as f32 } else { largest };
    block.iter().fold(0.0, larger)
}

fn eight_bits_k(block: &mut [f64]) {
    let largest = largest(block);
    let inverse = if largest == 0.0 { 0.0 } else { -127.0 / largest };
    let scale = if largest == 0.0 { 0.0 } else { 1.0 / inverse };
    block.iter_mut().for_each(|x| *x = f64::from((*x as f32 * inverse).round_ties_even().min(127.0) * scale));
}

fn four_bits(block: &mut [f64]) {
    let scale = largest(block) / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let scale = f16::from_f32(scale).to_f32();
    block.iter_mut().for_each(|x| {
        let steps = (*x as f32 * inverse + 8.5).clamp(0.0, 15.0).trunc();
        *x = f64::from((steps - 8.0) * scale);
    });
}

/// Which values are held in which format; the others are as exact as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// What goes into the products with weights, from the layers' side.
    pub activations: Option<Format>,
    /// The weights of those products.
    pub weights: Option<Format>,
    /// Keys and values, as the cache keeps them.
    pub cache: Option<Format>,
    /// What meets those in attention: queries, and the weights of values.
    pub attention: Option<Format>,
    /// Queries alone.
    pub queries: Option<Format>,
    /// The sum over values, which is rounded with each of them, as is what it is when a larger score comes.
    pub running: Option<Format>,
    /// The scores that go into the softmax.
    pub scores: Option<Format>,
    /// The weights that come out of the softmax.
    pub softmax: Option<Format>,
    /// RoPE's cosines and sines.
    pub rope: Option<Format>,
    /// Queries and keys behind RoPE.
    pub rotated: Option<Format>,
    /// What goes on from each addition.
    pub residual: Option<Format>,
    /// The product of routers is as exact as it comes.
    pub spares_routers: bool,
}

impl Formats {
    /// Every product's inputs in one format.
    pub fn products(format: Format) -> Self {
        let format = Some(format);
        Self { activations: format, weights: format, cache: format, attention: format, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(format: Format, row: &[f64]) -> Vec<f64> {
        let mut row = row.to_vec();
        format.round(&mut row);
        row
    }

    #[test]
    fn values_are_rounded_to_the_nearest() {
        assert_eq!(rounded(Format::Bf16, &[1.0 + 1.0 / 300.0, -3.0]), [1.0, -3.0]);
        assert_eq!(rounded(Format::F16, &[1.0 + 1.0 / 2048.0, 65_504.0]), [1.0, 65_504.0]);
    }

    /// As the `gguf` package's `quantize` and `dequantize` give for these values.
    #[test]
    fn blocks_are_rounded_as_ggml_does() {
        let row: Vec<f64> = (0..64).map(|i| f64::from((i * 37 % 64) - 20) / 7.0).collect();
        let near = |format, steps: f64| {
            for (block, found) in row.chunks(BLOCK).zip(rounded(format, &row).chunks(BLOCK)) {
                let largest = block.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
                let step = largest / steps;
                assert!(
                    block.iter().zip(found).all(|(a, b)| (a - b).abs() <= 0.51 * step + 1e-3 * largest),
                    "{format:?}"
                );
                assert!(block.iter().zip(found).any(|(a, b)| (a - b).abs() > 0.1 * step), "{format:?}");
            }
        };
        for nearest in Nearest::ALL {
            near(Format::Q8(nearest), 127.0);
        }
        let reference = Format::Q8(Nearest::Reference);
        assert_eq!(rounded(reference, &[0.0; 40]), [0.0; 40]);
        assert_eq!(rounded(reference, &[127.0, 2.5, -3.5]), [127.0, 3.0, -4.0]);
        assert_eq!(rounded(Format::Q8(Nearest::Avx), &[127.0, 2.5, -3.5]), [127.0, 2.0, -4.0]);
        // The value with the largest magnitude is kept, and its sign has one step more.
        let four = rounded(Format::Q4, &[-8.0, 7.0, 8.0, 0.4, -0.6, 0.0]);
        assert_eq!(four, [-8.0, 7.0, 7.0, 0.0, -1.0, 0.0]);
        assert_eq!(rounded(Format::Q4, &[8.0, -7.0, -8.0, 0.4]), [8.0, -7.0, -7.0, 0.0]);
        // A scale for many values, halves to even.
        let many = rounded(Format::Q8K, &[-127.0, 2.5, 3.5, 127.0, 0.4, -0.6]);
        assert_eq!(many, [-127.0, 2.0, 4.0, 127.0, 0.0, -1.0]);
        let row: Vec<f64> = (0..300).map(|i| f64::from(i) / 7.0).collect();
        let found = rounded(Format::Q8K, &row);
        assert!(row.iter().zip(&found).take(256).all(|(a, b)| (a - b).abs() <= 0.51 * 255.0 / 7.0 / 127.0));
        assert!((found[299] - row[299]).abs() < 1e-5);
        assert_eq!(rounded(Format::Q8K, &[0.0; 40]), [0.0; 40]);
    }
}
