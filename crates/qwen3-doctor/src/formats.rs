//! Precisions that values may have gone through, and how far they take them.

use half::{bf16, f16};
use qwen3_checkpoint::{BlockFormat, Encoding};
use qwen3_config::Precision;
use qwen3_report::doctor::{Rounding, Through};

use crate::bounds::{block_bounds, most_of};
use crate::requantised::{ROUND_TRIPS, RoundTrip};

/// How values stand to those that are expected.
#[derive(Clone, Debug, PartialEq)]
pub enum Agreement {
    /// They are the same.
    Same,
    /// They are the same in another precision.
    Through(Through),
}

/// f32 arithmetic on the way, such as a scale that was multiplied in and taken out again, may be off by so many steps.
const F32_STEPS: f32 = 4.0;
/// Of values that a converter brought into a format of integers, so many may have been tied the other way.
const TIES: f64 = 0.01;

/// How `found`, stored as `encoding` in rows of `columns`, is `expected` in another precision; `None` where it is not.
/// Values are finite.
pub fn agreement(found: &[f32], expected: &[f32], columns: usize, encoding: &Encoding) -> Option<Agreement> {
    if found == expected {
        return Some(Agreement::Same);
    }
    // No format is that coarse, and most that is asked is quite another tensor.
    if relative(found, expected) > 0.5 {
        return None;
    }
    let through = match encoding {
        Encoding::Blocks(format) => within_blocks(found, expected, columns, *format),
        Encoding::Fp8 => within_fp8(found, expected),
        Encoding::Plain(precision) => plain(found, expected, columns, *precision),
        Encoding::Unread(_) => None,
    };
    through.map(Agreement::Through)
}

/// The rms of the differences over that of what is expected.
pub fn relative(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
    let all: f64 = expected.iter().map(|value| square(*value)).sum();
    if error == 0.0 { 0.0 } else { (error / all).sqrt() }
}

fn through(format: &str, how: Rounding, ratio: f32) -> Option<Through> {
    Some(Through { format: format.into(), how, ratio: f64::from(ratio) })
}

/// A number in the lower precision, to nearest even.
pub fn rounded(value: f32, precision: Precision) -> f32 {
    match precision {
        Precision::F32 => value,
        Precision::F16 => f16::from_f32(value).to_f32(),
        Precision::BF16 => bf16::from_f32(value).to_f32(),
    }
}

/// Half of a step of the precision at `value`: what rounding may be off by.
pub fn half_step(value: f32, precision: Precision) -> f32 {
    // The bits of the fraction, and the least exponent.
    let (bits, least) = match precision {
        Precision::F32 => (23, -126),
        Precision::F16 => (10, -14),
        Precision::BF16 => (7, -126),
    };
    // The exponent, as f32 has it.
    let exponent = (value.to_bits() >> 23 & 0xff) as i32 - 127;
    power_of_two(exponent.max(least) - bits - 1)
}

/// Two to the power of a number from -149 to 127, and from below the least number that there is.
fn power_of_two(exponent: i32) -> f32 {
    match exponent.max(-149) {
        exponent @ ..-126 => f32::from_bits(1 << (exponent + 149)),
        exponent => f32::from_bits(((exponent + 127) as u32) << 23),
    }
}

fn plain(found: &[f32], expected: &[f32], columns: usize, stored: Precision) -> Option<Through> {
    let pairs = || found.iter().zip(expected);
    let halves = [Precision::F16, Precision::BF16];
    for precision in halves {
        if pairs().all(|(f, e)| *f == rounded(*e, precision)) {
            return through(precision.name(), Rounding::Nearest, 1.0);
        }
    }
    if pairs().all(|(f, e)| f.to_bits() == e.to_bits() & 0xffff_0000) {
        return through("bf16", Rounding::Truncated, 2.0);
    }
    // In steps; `None` where one value is further off, which most often is the first.
    let worst = |step: &dyn Fn(f32) -> f32, most: f32| {
        let steps = |(f, e): (&f32, &f32)| (f - e).abs() / step(*e);
        pairs().all(|pair| steps(pair) <= most).then(|| pairs().map(steps).fold(0.0, f32::max))
    };
    if let Some(steps) = worst(&|value| half_step(value, Precision::F32), 2.0 * F32_STEPS) {
        return through("f32", Rounding::Within, steps);
    }
    for precision in halves {
        // Such as f16, whose steps near zero are the wider ones, and then bf16.
        let step = |value| half_step(value, precision).max(half_step(value, Precision::F16));
        let is_in = || found.iter().all(|value| *value == rounded(*value, precision));
        if let Some(steps) = worst(&step, 2.0).filter(|_| is_in()) {
            return through(precision.name(), Rounding::Within, steps);
        }
    }
    for trip in ROUND_TRIPS {
        if let Some(found) = by_round_trip(found, expected, columns, stored, trip) {
            return Some(found);
        }
    }
    few_values(found, expected, columns)
}

/// Did the values go through a format and back, to be stored as plain numbers?
fn by_round_trip(
    found: &[f32],
    expected: &[f32],
    columns: usize,
    stored: Precision,
    trip: &RoundTrip,
) -> Option<Through> {
    if !trip.may_be(found, expected, columns, |value| rounded(value, stored)) {
        return None;
    }
    let there = trip.of(expected, columns);
    let others = found.iter().zip(there).filter(|(f, t)| **f != rounded(*t, stored)).count();
    let few = others as f64 <= TIES * found.len() as f64;
    let how = if others == 0 { Rounding::Nearest } else { Rounding::Within };
    (few && unbiased(found, expected)).then(|| through(trip.name, how, 1.0)).flatten()
}

/// Four bits in groups of some kind (GPTQ, AWQ, NF4): no group of 32 has more than 16 numbers, each near to its own.
fn few_values(found: &[f32], expected: &[f32], columns: usize) -> Option<Through> {
    const GROUP: usize = 32;
    /// Of the groups that are usual, the largest.
    const LARGEST: usize = 128;
    if !columns.is_multiple_of(GROUP) || columns < 2 * GROUP {
        return None;
    }
    let few = |group: &[f32]| {
        let mut bits: Vec<u32> = group.iter().map(|value| value.to_bits()).collect();
        bits.sort_unstable();
        bits.dedup();
        bits.len() <= 16
    };
    if !found.chunks(GROUP).all(few) {
        return None;
    }
    let mut worst: f32 = 0.0;
    for (found, expected) in found.chunks(columns).zip(expected.chunks(columns)) {
        for (found, expected) in found.chunks(LARGEST).zip(expected.chunks(LARGEST)) {
            // Of what is not spaced evenly, the widest step is some two even ones.
            let bound = 2.0 * most_of(expected) / 15.0;
            let error = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
            worst = worst.max(if error == 0.0 { 0.0 } else { error / bound });
        }
    }
    (worst <= 1.5 && unbiased(found, expected)).then(|| through("4 bits", Rounding::Within, worst)).flatten()
}

/// Values that are stored as eight bits with a scale for each block: three bits of a fraction.
fn within_fp8(found: &[f32], expected: &[f32]) -> Option<Through> {
    // The least step, of the smallest numbers, under the largest scale that a block can have.
    let least = most_of(expected) / 448.0 * 2_f32.powi(-10);
    let ratio = |(f, e): (&f32, &f32)| (f - e).abs() / (e.abs() / 16.0).max(least).max(f32::MIN_POSITIVE);
    let worst = found.iter().zip(expected).map(ratio).fold(0.0, f32::max);
    // Scales are rounded too.
    (worst <= 1.2 && unbiased(found, expected)).then(|| through("f8_e4m3", Rounding::Within, worst)).flatten()
}

/// Values that are stored in blocks.
fn within_blocks(found: &[f32], expected: &[f32], columns: usize, format: BlockFormat) -> Option<Through> {
    let size = format.numbers();
    if !columns.is_multiple_of(size) {
        return None;
    }
    let mut bounds = vec![0.0; size];
    let mut worst: f32 = 0.0;
    for (found, expected) in found.chunks(size).zip(expected.chunks(size)) {
        block_bounds(format, expected, &mut bounds);
        for ((f, e), bound) in found.iter().zip(expected).zip(&bounds) {
            let error = (f - e).abs();
            worst = worst.max(if error == 0.0 { 0.0 } else { error / bound });
        }
    }
    let most = crate::bounds::most(format);
    (worst <= most && unbiased(found, expected))
        .then(|| through(format.name(), Rounding::Within, worst))
        .flatten()
}

/// Is there no factor between the values, beyond what errors of their size make by chance or by clipping?
fn unbiased(found: &[f32], expected: &[f32]) -> bool {
    let (mut product, mut square, mut error) = (0.0, 0.0, 0.0);
    for (f, e) in found.iter().zip(expected) {
        let (f, e) = (f64::from(*f), f64::from(*e));
        product += f * e;
        square += e * e;
        error += (f - e) * (f - e);
    }
    if square == 0.0 {
        return error == 0.0;
    }
    let (factor, relative) = (product / square, (error / square).sqrt());
    (factor - 1.0).abs() <= 4.0 * relative * relative + 8.0 * relative / (found.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: usize = 256;
    const PLAIN: Encoding = Encoding::Plain(Precision::F32);

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|at| ((at as f32 * 0.713).sin() + (at as f32 * 0.0317).cos()) * 0.05).collect()
    }

    fn format(found: &[f32], expected: &[f32]) -> Option<(String, Rounding)> {
        match agreement(found, expected, COLUMNS, &PLAIN)? {
            Agreement::Same => Some(("same".into(), Rounding::Nearest)),
            Agreement::Through(through) => Some((through.format, through.how)),
        }
    }

    #[test]
    fn precisions_are_told_apart() {
        let expected = values(COLUMNS * 160);
        let of = |change: &dyn Fn(f32) -> f32| {
            let found: Vec<f32> = expected.iter().map(|value| change(*value)).collect();
            format(&found, &expected)
        };
        let named = |name: &str, how| Some((name.to_string(), how));
        assert_eq!(of(&|value| value), named("same", Rounding::Nearest));
        assert_eq!(of(&|value| rounded(value, Precision::F16)), named("f16", Rounding::Nearest));
        assert_eq!(of(&|value| rounded(value, Precision::BF16)), named("bf16", Rounding::Nearest));
        let cut = |value: f32| f32::from_bits(value.to_bits() & 0xffff_0000);
        assert_eq!(of(&cut), named("bf16", Rounding::Truncated));
        let twice = |value: f32| rounded(rounded(value, Precision::F16), Precision::BF16);
        assert_eq!(of(&twice), named("bf16", Rounding::Within));
        assert_eq!(of(&|value| value * 0.3 / 0.3), named("f32", Rounding::Within));
        assert_eq!(of(&|value| value * 1.0001), None);
        assert_eq!(of(&|value| rounded(value * 1.02, Precision::BF16)), None);
        assert_eq!(of(&|value| value + 1e-4), None);
    }

    #[test]
    fn a_round_trip_is_named_and_a_scaled_one_is_none() {
        let expected = values(COLUMNS * 160);
        for trip in ROUND_TRIPS {
            let there = trip.of(&expected, COLUMNS);
            assert_eq!(format(&there, &expected), Some((trip.name.to_string(), Rounding::Nearest)));
            let scaled: Vec<f32> = there.iter().map(|value| value * 1.1).collect();
            assert_eq!(format(&scaled, &expected), None, "{}", trip.name);
        }
    }

    #[test]
    fn four_bits_of_any_kind_are_few_values() {
        let expected = values(COLUMNS * 160);
        let levels: Vec<f32> = (0..16).map(|level| (level as f32 - 7.5) / 7.5).collect();
        let of = |factor: f32| -> Vec<f32> {
            let near = |value: &f32, most: f32| {
                let nearest = levels
                    .iter()
                    .min_by(|a, b| (*a * most - value).abs().total_cmp(&(*b * most - value).abs()));
                nearest.unwrap() * most * factor
            };
            expected
                .chunks(COLUMNS)
                .flat_map(|row| {
                    let most = most_of(row);
                    row.iter().map(|value| near(value, most)).collect::<Vec<_>>()
                })
                .collect()
        };
        assert_eq!(format(&of(1.0), &expected), Some(("4 bits".into(), Rounding::Within)));
        assert_eq!(format(&of(1.3), &expected), None);
    }
}
