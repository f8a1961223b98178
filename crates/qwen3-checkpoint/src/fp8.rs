//! Matrices stored as `float8_e4m3fn`, with a scale for each block.

use std::sync::LazyLock;

use qwen3_config::Fp8Blocks;

/// What comes behind a weight's key in that of its scales.
const SCALES: &str = "_scale_inv";

/// The key of the scales of the matrix `key`.
pub(crate) fn scales_key(key: &str) -> String {
    format!("{key}{SCALES}")
}

/// The blocks of one matrix.
pub(crate) struct Fp8Matrix {
    pub(crate) blocks: Fp8Blocks,
    /// Columns of the matrix.
    pub(crate) columns: usize,
    /// One for each block, row-major.
    pub(crate) scales: Vec<f32>,
}

impl Fp8Matrix {
    /// The shape of the scales of a matrix of `shape`.
    pub(crate) fn scales_shape(blocks: Fp8Blocks, shape: [usize; 2]) -> [usize; 2] {
        [shape[0].div_ceil(blocks.rows), shape[1].div_ceil(blocks.columns)]
    }

    /// The values of `bytes`, of which the first has the flat index `start`: the product with the scale in f32.
    pub(crate) fn widen(&self, bytes: &[u8], start: usize, values: &mut [f32]) {
        let across = self.columns.div_ceil(self.blocks.columns);
        let mut done = 0;
        while done < values.len() {
            let (row, column) = ((start + done) / self.columns, (start + done) % self.columns);
            let end = ((column / self.blocks.columns + 1) * self.blocks.columns).min(self.columns);
            let run = done..values.len().min(done + end - column);
            let scale = self.scales[row / self.blocks.rows * across + column / self.blocks.columns];
            for (value, byte) in values[run.clone()].iter_mut().zip(&bytes[run.clone()]) {
                *value = NUMBERS[usize::from(*byte)] * scale;
            }
            done = run.end;
        }
    }
}

/// Every number of the format: a sign, four bits of an exponent with bias 7, three of a fraction; no infinities.
static NUMBERS: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let (exponent, fraction) = ((byte >> 3 & 15) as i32, (byte & 7) as f32);
        let magnitude = match (exponent, byte & 7) {
            (15, 7) => f32::NAN,
            (0, _) => fraction * 2_f32.powi(-9),
            _ => (8.0 + fraction) * 2_f32.powi(exponent - 10),
        };
        if byte < 128 { magnitude } else { -magnitude }
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_e4m3fn() {
        for (byte, number) in [
            (0, 0.0),
            (1, 2_f32.powi(-9)),
            (7, 0.013_671_875),
            (8, 2_f32.powi(-6)),
            (0x38, 1.0),
            (0x7e, 448.0),
        ] {
            assert_eq!(NUMBERS[byte], number);
            assert_eq!(NUMBERS[byte + 128], -number);
        }
        assert!(NUMBERS[0x7f].is_nan() && NUMBERS[0xff].is_nan());
    }

    /// Five columns in blocks of two rows and three columns.
    fn matrix() -> Fp8Matrix {
        let blocks = Fp8Blocks { rows: 2, columns: 3 };
        assert_eq!(Fp8Matrix::scales_shape(blocks, [3, 5]), [2, 2]);
        Fp8Matrix { blocks, columns: 5, scales: vec![1.0, 10.0, 100.0, 1000.0] }
    }

    #[test]
    fn each_block_has_its_scale() {
        let mut values = [0.0_f32; 15];
        matrix().widen(&[0x38; 15], 0, &mut values);
        let row = [1.0, 1.0, 1.0, 10.0, 10.0];
        assert_eq!(values[..5], row);
        assert_eq!(values[5..10], row);
        assert_eq!(values[10..], row.map(|scale| 100.0 * scale));
        // From anywhere, as many as there are.
        let mut some = [0.0; 4];
        matrix().widen(&[0x40; 4], 9, &mut some);
        assert_eq!(some, [20.0, 200.0, 200.0, 200.0]);
    }
}
