//! Formats of integers that values are brought into and out of again by a known rule.

use half::f16;

/// A way there and back.
pub struct RoundTrip {
    /// The format's name.
    pub name: &'static str,
    /// What becomes of the values of a group.
    rule: fn(&[f32]) -> Rule,
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
    RoundTrip { name: "q8_0", rule: q8_0, size: Size::Values(32) },
    RoundTrip { name: "int8 (a scale for each row)", rule: int8, size: Size::Row },
    RoundTrip { name: "int8 (one scale)", rule: int8, size: Size::Tensor },
    RoundTrip { name: "f8_e4m3 (blocks of 128 x 128)", rule: fp8, size: Size::Block(128) },
    RoundTrip { name: "f8_e4m3 (a scale for each row)", rule: fp8, size: Size::Row },
    RoundTrip { name: "f8_e4m3 (one scale)", rule: fp8, size: Size::Tensor },
    RoundTrip { name: "f8_e4m3 (no scale)", rule: |_| Rule::Fp8 { scale: 1.0 }, size: Size::Row },
    RoundTrip { name: "q5_1", rule: |values| from_least(values, 31.0), size: Size::Values(32) },
    RoundTrip { name: "q5_0", rule: |values| symmetric(values, 16.0), size: Size::Values(32) },
    RoundTrip { name: "q4_1", rule: |values| from_least(values, 15.0), size: Size::Values(32) },
    RoundTrip { name: "q4_0", rule: |values| symmetric(values, 8.0), size: Size::Values(32) },
];

/// What becomes of a value.
enum Rule {
    /// A whole number of scales, to nearest.
    Nearest { inverse: f32, scale: f32 },
    /// The same counted from `least`, which is stored as `stored`, and at most `most` of them.
    Counted { least: f32, inverse: f32, scale: f32, stored: f32, most: f32 },
    /// Four bits of an exponent and three of a fraction.
    Fp8 { scale: f32 },
}

impl Rule {
    fn of(&self, value: f32) -> f32 {
        match *self {
            Self::Nearest { inverse, scale } => (value * inverse).round() * scale,
            Self::Counted { least, inverse, scale, stored, most } => {
                // As the cast to an integer does.
                ((value - least) * inverse + 0.5).trunc().clamp(0.0, most) * scale + stored
            }
            Self::Fp8 { scale: 0.0 } => value,
            Self::Fp8 { scale } => e4m3(value / scale) * scale,
        }
    }
}

/// So many values tell most tensors apart from one that went through a format.
const FEW: usize = 64;

impl RoundTrip {
    /// Can `found` be what `values` in rows of `columns` become, to be stored by `store`? No, where many of the first few are
    /// not.
    pub fn may_be(&self, found: &[f32], values: &[f32], columns: usize, store: impl Fn(f32) -> f32) -> bool {
        let size = match self.size {
            Size::Values(size) => size,
            // Of a block the first row alone does not tell the scale.
            Size::Row | Size::Block(_) => columns,
            Size::Tensor => values.len(),
        };
        if columns == 0 || (matches!(self.size, Size::Values(_)) && !columns.is_multiple_of(size)) {
            return false;
        }
        let rule = match self.size {
            Size::Block(size) => {
                let (rows, right) = ((values.len() / columns).min(size), columns.min(size));
                let block: Vec<f32> =
                    (0..rows).flat_map(|row| &values[row * columns..][..right]).copied().collect();
                (self.rule)(&block)
            }
            _ => (self.rule)(&values[..size.min(values.len())]),
        };
        let few = FEW.min(size).min(columns);
        let others = (0..few).filter(|at| found[*at] != store(rule.of(values[*at]))).count();
        others * 10 <= few
    }

    /// What `values` in rows of `columns` become; rows are whole groups.
    pub fn of(&self, values: &[f32], columns: usize) -> Vec<f32> {
        let group = |values: &[f32]| -> Vec<f32> {
            let rule = (self.rule)(values);
            values.iter().map(|value| rule.of(*value)).collect()
        };
        let groups = |size: usize| values.chunks(size).flat_map(group).collect();
        match self.size {
            Size::Values(size) => groups(size),
            Size::Row => groups(columns),
            Size::Tensor => groups(values.len()),
            Size::Block(size) => {
                let mut all = vec![0.0; values.len()];
                let rows = values.len() / columns;
                let corners = (0..rows)
                    .step_by(size)
                    .flat_map(|top| (0..columns).step_by(size).map(move |left| (top, left)));
                for (top, left) in corners {
                    let (bottom, right) = (rows.min(top + size), columns.min(left + size));
                    let row = |row: usize| row * columns + left..row * columns + right;
                    let block: Vec<f32> = (top..bottom).flat_map(|at| &values[row(at)]).copied().collect();
                    for (at, done) in (top..bottom).zip(group(&block).chunks(right - left)) {
                        all[row(at)].copy_from_slice(done);
                    }
                }
                all
            }
        }
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
fn q8_0(values: &[f32]) -> Rule {
    let scale = most(values) / 127.0;
    Rule::Nearest { inverse: inverse(scale), scale: stored(scale) }
}

/// A whole number for the magnitude of the largest, 127.
fn int8(values: &[f32]) -> Rule {
    let scale = most(values) / 127.0;
    Rule::Nearest { inverse: inverse(scale), scale }
}

/// As `quantize_row_q4_0_ref` and `_q5_0_ref`: the value with the largest magnitude becomes the least number, `-half`.
fn symmetric(values: &[f32], half: f32) -> Rule {
    let most =
        values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most });
    let scale = most / -half;
    Rule::Counted {
        least: most,
        inverse: inverse(scale),
        scale: stored(scale),
        stored: -half * stored(scale),
        most: 2.0 * half - 1.0,
    }
}

/// As `quantize_row_q4_1_ref` and `_q5_1_ref`.
fn from_least(values: &[f32], steps: f32) -> Rule {
    let least = values.iter().fold(f32::INFINITY, |least, value| least.min(*value));
    let most = values.iter().fold(f32::NEG_INFINITY, |most, value| most.max(*value));
    let scale = (most - least) / steps;
    Rule::Counted { least, inverse: inverse(scale), scale: stored(scale), stored: stored(least), most: steps }
}

/// The largest becomes 448.
fn fp8(values: &[f32]) -> Rule {
    Rule::Fp8 { scale: most(values) / 448.0 }
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
