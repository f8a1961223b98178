//! Formats of GGML's that store numbers in blocks, each with scales of its own.

use half::f16;

/// A format of blocks. Follows `dequantize_row_*` of GGML's `ggml-quants.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 32 numbers of four bits, and a scale.
    Q4_0,
    /// The same, and the least.
    Q4_1,
    /// 32 numbers of five bits, and a scale.
    Q5_0,
    /// The same, and the least.
    Q5_1,
    /// 32 numbers of eight bits, and a scale.
    Q8_0,
    /// Eight times 32 numbers of four bits, each with a scale and a least number of six bits.
    Q4K,
    /// The same with five bits.
    Q5K,
    /// 16 times 16 numbers of six bits, each with a scale of eight bits.
    Q6K,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q8_0, Self::Q4K, Self::Q5K, Self::Q6K];

    /// GGML's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }

    /// The one of that name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// How many numbers a block holds. A row of a matrix is whole blocks.
    pub fn numbers(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// How many bytes a block takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The numbers of whole blocks, as f32: exactly those that GGML computes with.
    ///
    /// # Panics
    /// When `bytes` are no whole blocks, or `values` are not as many as they hold.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(bytes.len() % self.bytes(), 0, "whole blocks");
        assert_eq!(bytes.len() / self.bytes() * self.numbers(), values.len(), "a number for each value");
        for (block, values) in bytes.chunks(self.bytes()).zip(values.chunks_mut(self.numbers())) {
            match self {
                Self::Q4_0 => four_bits(&block[2..], values, |q| half(block, 0) * (q - 8.0)),
                Self::Q4_1 => four_bits(&block[4..], values, |q| half(block, 0) * q + half(block, 1)),
                Self::Q5_0 => five_bits(&block[2..], values, |q| half(block, 0) * (q - 16.0)),
                Self::Q5_1 => five_bits(&block[4..], values, |q| half(block, 0) * q + half(block, 1)),
                Self::Q8_0 => {
                    let scale = half(block, 0);
                    for (value, byte) in values.iter_mut().zip(&block[2..]) {
                        *value = scale * f32::from(byte.cast_signed());
                    }
                }
                Self::Q4K => {
                    let (scales, low) = (&block[4..16], &block[16..]);
                    sub_blocks(block, scales, values, |part, at| nibble(&low[part / 2 * 32..], part, at));
                }
                Self::Q5K => {
                    let (scales, high, low) = (&block[4..16], &block[16..48], &block[48..]);
                    sub_blocks(block, scales, values, |part, at| {
                        nibble(&low[part / 2 * 32..], part, at) + 16.0 * f32::from(high[at] >> part & 1)
                    });
                }
                Self::Q6K => six_bits(block, values),
            }
        }
    }
}

/// The f16 number of that index at the beginning of a block.
fn half(block: &[u8], index: usize) -> f32 {
    f16::from_le_bytes([block[2 * index], block[2 * index + 1]]).to_f32()
}

/// The low four bits of a byte for an even part, the high ones for an odd.
fn nibble(bytes: &[u8], part: usize, at: usize) -> f32 {
    f32::from(if part.is_multiple_of(2) { bytes[at] & 15 } else { bytes[at] >> 4 })
}

/// 16 bytes hold the first 16 numbers in their low halves, the others in their high ones.
fn four_bits(bytes: &[u8], values: &mut [f32], of: impl Fn(f32) -> f32) {
    for (at, value) in values.iter_mut().enumerate() {
        *value = of(nibble(bytes, at / 16, at % 16));
    }
}

/// The fifth bits stand before the others.
fn five_bits(bytes: &[u8], values: &mut [f32], of: impl Fn(f32) -> f32) {
    let (high, low) = bytes.split_first_chunk().expect("four bytes");
    let high = u32::from_le_bytes(*high);
    for (at, value) in values.iter_mut().enumerate() {
        *value = of(nibble(low, at / 16, at % 16) + 16.0 * (high >> at & 1) as f32);
    }
}

/// Eight parts of 32 numbers `q`, each `scale * q - least`.
fn sub_blocks(block: &[u8], scales: &[u8], values: &mut [f32], q: impl Fn(usize, usize) -> f32) {
    for (part, values) in values.chunks_mut(32).enumerate() {
        // `get_scale_min_k4`: four of each in six bits of a byte, the high bits of the other four above them.
        let (scale, least) = match part {
            0..4 => (scales[part] & 63, scales[part + 4] & 63),
            _ => (
                scales[part + 4] & 15 | scales[part - 4] >> 6 << 4,
                scales[part + 4] >> 4 | scales[part] >> 6 << 4,
            ),
        };
        let (scale, least) = (half(block, 0) * f32::from(scale), half(block, 1) * f32::from(least));
        for (at, value) in values.iter_mut().enumerate() {
            *value = scale * q(part, at) - least;
        }
    }
}

/// 128 bytes of low bits, 64 of high ones, 16 scales, and the scale of all.
fn six_bits(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let all = half(&block[208..], 0);
    for (at, value) in values.iter_mut().enumerate() {
        // Of each half, four quarters of 32 numbers share bytes.
        let (half, quarter, column) = (at / 128, at / 32 % 4, at % 32);
        let low = low[64 * half + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15;
        let high = high[32 * half + column] >> (2 * quarter) & 3;
        let scale = scales[at / 16].cast_signed();
        *value = all * f32::from(scale) * (f32::from(low | high << 4) - 32.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of random bytes and what the `gguf` package of llama.cpp makes of them: tools/peers/ggml_blocks.py.
    #[test]
    fn blocks_are_what_ggml_reads() {
        let text = include_str!("blocks/expected.json");
        let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(expected.len(), BlockFormat::ALL.len());
        for format in BlockFormat::ALL {
            let case = &expected[format.name()];
            let list = |key: &str| case[key].as_array().unwrap().clone();
            let bytes: Vec<u8> = list("bytes").iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
            // By their bits, so that nothing is lost in writing them down.
            let bits: Vec<u32> = list("bits").iter().map(|bits| bits.as_u64().unwrap() as u32).collect();
            let mut values = vec![0.0; bytes.len() / format.bytes() * format.numbers()];
            format.decode(&bytes, &mut values);
            let found: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            assert_eq!(found, bits, "{}", format.name());
            assert_eq!(BlockFormat::named(&format.name().to_uppercase()), Some(format));
        }
    }
}
