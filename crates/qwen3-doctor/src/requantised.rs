//! Formats of integers that values are brought into and out of again by a known rule.

use half::f16;

/// A way there and back.
pub struct RoundTrip {
    /// The format's name.
    pub name: &'static str,
    /// What the values of a group become.
    group: fn(&[f32]) -> Vec<f32>,
    size: Size,
}

/// What shares a scale.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    /// So many values of a row.
    Values(usize),
    /// A row.
    Row,
    /// So many rows of so many values.
    Block(usize),
    /// All.
    Tensor,
}

/// The usual ones, the finer before the coarser.
pub const ROUND_TRIPS: &[RoundTrip] = &[
    RoundTrip { name: "q8_0", group: q8_0, size: Size::Values(32) },
    RoundTrip { name: "int8 (a scale for each row)", group: int8, size: Size::Row },
    RoundTrip { name: "int8 (one scale)", group: int8, size: Size::Tensor },
    RoundTrip { name: "f8_e4m3 (blocks of 128 x 128)", group: fp8, size: Size::Block(128) },
    RoundTrip { name: "f8_e4m3 (a scale for each row)", group: fp8, size: Size::Row },
    RoundTrip { name: "f8_e4m3 (one scale)", group: fp8, size: Size::Tensor },
    RoundTrip { name: "f8_e4m3 (no scale)", group: fp8_unscaled, size: Size::Row },
    RoundTrip { name: "q5_1", group: q5_1, size: Size::Values(32) },
    RoundTrip { name: "q5_0", group: q5_0, size: Size::Values(32) },
    RoundTrip { name: "q4_1", group: q4_1, size: Size::Values(32) },
    RoundTrip { name: "q4_0", group: q4_0, size: Size::Values(32) },
];

impl RoundTrip {
    /// What `values` in rows of `columns` become; `None` where rows are no whole groups.
    pub fn of(&self, values: &[f32], columns: usize) -> Option<Vec<f32>> {
        let groups = |size: usize| values.chunks(size).flat_map(self.group).collect();
        match self.size {
            Size::Values(size) => columns.is_multiple_of(size).then(|| groups(size)),
            Size::Row => Some(groups(columns)),
            Size::Tensor => Some(groups(values.len())),
            Size::Block(size) => {
                let mut all = vec![0.0; values.len()];
                let rows = values.len() / columns;
                for (top, left) in (0..rows)
                    .step_by(size)
                    .flat_map(|top| (0..columns).step_by(size).map(move |left| (top, left)))
                {
                    let (bottom, right) = (rows.min(top + size), columns.min(left + size));
                    let row = |row: usize| row * columns + left..row * columns + right;
                    let block: Vec<f32> =
                        (top..bottom).flat_map(|at| values[row(at)].iter().copied()).collect();
                    for (at, done) in (top..bottom).zip((self.group)(&block).chunks(right - left)) {
                        all[row(at)].copy_from_slice(done);
                    }
                }
                Some(all)
            }
        }
    }

    /// Can it be told from all values only, and not from some rows?
    pub fn whole(&self) -> bool {
        matches!(self.size, Size::Tensor | Size::Block(_))
    }
}

fn most(values: &[f32]) -> f32 {
    crate::bounds::most_of(values)
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn stored(scale: f32) -> f32 {
    f16::from_f32(scale).to_f32()
}

/// As `quantize_row_q8_0_ref` of GGML's.
fn q8_0(values: &[f32]) -> Vec<f32> {
    let scale = most(values) / 127.0;
    let (inverse, scale) = (inverse(scale), stored(scale));
    values.iter().map(|value| (value * inverse).round() * scale).collect()
}

/// A whole number for the magnitude of the largest, 127.
fn int8(values: &[f32]) -> Vec<f32> {
    let scale = most(values) / 127.0;
    let inverse = inverse(scale);
    values.iter().map(|value| (value * inverse).round() * scale).collect()
}

/// The value with the largest magnitude becomes the least number.
fn symmetric(values: &[f32], least: f32) -> Vec<f32> {
    let most =
        values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most });
    let scale = most / -least;
    let (inverse, scale) = (inverse(scale), stored(scale));
    // As the cast to an integer does.
    let number = |value: f32| (value * inverse + least + 0.5).trunc().clamp(0.0, 2.0 * least - 1.0) - least;
    values.iter().map(|value| number(*value) * scale).collect()
}

fn q4_0(values: &[f32]) -> Vec<f32> {
    symmetric(values, 8.0)
}

fn q5_0(values: &[f32]) -> Vec<f32> {
    symmetric(values, 16.0)
}

fn from_least(values: &[f32], steps: f32) -> Vec<f32> {
    let least = values.iter().fold(f32::INFINITY, |least, value| least.min(*value));
    let most = values.iter().fold(f32::NEG_INFINITY, |most, value| most.max(*value));
    let scale = (most - least) / steps;
    let (inverse, scale) = (inverse(scale), stored(scale));
    let number = |value: f32| ((value - least) * inverse + 0.5).trunc().clamp(0.0, steps);
    values.iter().map(|value| number(*value) * scale + stored(least)).collect()
}

fn q4_1(values: &[f32]) -> Vec<f32> {
    from_least(values, 15.0)
}

fn q5_1(values: &[f32]) -> Vec<f32> {
    from_least(values, 31.0)
}

/// Four bits of an exponent, three of a fraction, the largest 448.
fn fp8(values: &[f32]) -> Vec<f32> {
    let scale = most(values) / 448.0;
    if scale == 0.0 {
        return values.to_vec();
    }
    values.iter().map(|value| e4m3(value / scale) * scale).collect()
}

fn fp8_unscaled(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| e4m3(*value)).collect()
}

/// To nearest even; what is too large becomes the largest.
fn e4m3(value: f32) -> f32 {
    if value == 0.0 {
        return value;
    }
    let exponent = (value.abs().log2().floor() as i32).max(-6);
    let step = 2_f32.powi(exponent - 3);
    ((value / step).round_ties_even() * step).clamp(-448.0, 448.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_rounded_to_even() {
        for (value, rounded) in [
            (1.0, 1.0),
            (1.06, 1.0),
            (1.0625, 1.0),
            (1.19, 1.25),
            (-17.0, -16.0),
            (500.0, 448.0),
            (2_f32.powi(-9), 2_f32.powi(-9)),
            (0.7 * 2_f32.powi(-9), 2_f32.powi(-9)),
            (0.4 * 2_f32.powi(-9), 0.0),
        ] {
            assert_eq!(e4m3(value), rounded, "{value}");
        }
    }
}
