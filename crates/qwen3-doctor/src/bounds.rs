//! How far a block's format may take values, from what goes into the block.

use qwen3_checkpoint::BlockFormat;

/// The largest magnitude.
pub fn most_of(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// How many times its [bound](block_bounds) a value may be off: quantisers look for the scales with the least weighted
/// square error, by which single values may come off worse than by the plain ones.
pub fn most(format: BlockFormat) -> f32 {
    match format {
        // Half a step more, for values that were f16 or bf16 on their way.
        BlockFormat::Q8_0 => 1.5,
        BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q5_0 | BlockFormat::Q5_1 => 2.0,
        BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => 3.0,
    }
}

/// What each value of a block may be off by: half a step, of a sign with one number less a whole one, and what rounding
/// the scales makes of it.
///
/// Follows `quantize_row_*_ref` of GGML's `ggml-quants.c`.
pub fn block_bounds(format: BlockFormat, values: &[f32], bounds: &mut [f32]) {
    /// An f16 scale is off by half of its step.
    const HALF: f32 = 1.0 / 2048.0;
    /// And below the least normal one by so much.
    const LEAST: f32 = 3e-8;
    let of_all = |step: f32, bits: u32, part: f32| step * part + (step * HALF + LEAST) * (1 << bits) as f32;
    match format {
        BlockFormat::Q8_0 => bounds.fill(of_all(most_of(values) / 127.0, 7, 0.5)),
        BlockFormat::Q4_0 => bounds.fill(of_all(most_of(values) / 8.0, 3, 1.0)),
        BlockFormat::Q5_0 => bounds.fill(of_all(most_of(values) / 16.0, 4, 1.0)),
        BlockFormat::Q4_1 => bounds.fill(of_all(range(values) / 15.0, 4, 0.5) + most_of(values) * HALF),
        BlockFormat::Q5_1 => bounds.fill(of_all(range(values) / 31.0, 5, 0.5) + most_of(values) * HALF),
        BlockFormat::Q4K => of_parts(values, bounds, 15.0),
        BlockFormat::Q5K => of_parts(values, bounds, 31.0),
        BlockFormat::Q6K => {
            let most = most_of(values) / 32.0;
            for (values, bounds) in values.chunks(16).zip(bounds.chunks_mut(16)) {
                // The scales of the parts are of eight bits.
                bounds.fill(most_of(values) / 32.0 + 16.0 * most / 127.0 + LEAST * 32.0);
            }
        }
    }
}

/// Parts of 32 with a scale and a least number that is never above zero, each of six bits of the largest.
fn of_parts(values: &[f32], bounds: &mut [f32], steps: f32) {
    let scale = |part: &[f32]| range_from_zero(part) / steps;
    let least = |part: &[f32]| -part.iter().fold(0.0_f32, |least, value| least.min(*value));
    let parts = || values.chunks(32);
    let (scales, leasts) =
        (parts().map(scale).fold(0.0, f32::max) / 63.0, parts().map(least).fold(0.0, f32::max) / 63.0);
    for (part, bounds) in parts().zip(bounds.chunks_mut(32)) {
        bounds.fill(scale(part) / 2.0 + steps * scales / 2.0 + leasts / 2.0 + 1e-7);
    }
}

fn range(values: &[f32]) -> f32 {
    let (least, most) = ends(values, f32::INFINITY);
    most - least
}

fn range_from_zero(values: &[f32]) -> f32 {
    let (least, most) = ends(values, 0.0);
    most - least
}

/// The least value, at most `first`, and the largest, at least minus that.
fn ends(values: &[f32], first: f32) -> (f32, f32) {
    values.iter().fold((first, -first), |(least, most), value| (least.min(*value), most.max(*value)))
}
