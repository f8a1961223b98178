//! The rival of every cause: noise. Where a layer is ill-conditioned, all that disturbs it leads the same way, a
//! mistake with a number as well as rounding, so that either can be bent to look like the other.

use qwen3_trace::Precision;

use crate::Result;
use crate::arithmetic::Arithmetic;
use crate::laboratory::Laboratory;
use crate::ops::dot;
use crate::residual::Residual;
use crate::segment::Segment;
use crate::variant::Variant;

/// Honest runs that are put together.
const DRAWS: u32 = 8;
/// How many times as large as that of one run the noise may be.
const LOUDEST: f64 = 64.0;

/// What is left of the error of `segment` by the noise in `dtype` that comes nearest to it: a combination of what
/// honest implementations, given the segment's input, are off by.
///
/// # Errors
/// When a weight cannot be read.
pub fn noise(laboratory: &mut Laboratory, segment: &Segment, dtype: Precision) -> Result<Residual> {
    let right = laboratory.right().clone();
    let exact = laboratory.watched_values(segment, &right)?;
    let mut noises = Vec::new();
    for draw in 0..DRAWS {
        let variant = Variant { arithmetic: Arithmetic::Rounded { dtype, draw }, ..right.clone() };
        noises.push(difference(&laboratory.watched_values(segment, &variant)?, &exact));
    }
    let observed: Vec<_> = segment.watched.iter().map(|watched| watched.values.clone()).collect();
    let error = difference(&observed, &exact);
    let widths: Vec<usize> = segment
        .watched
        .iter()
        .map(|watched| *watched.site.tap.shape(&laboratory.config, 1, 1).last().expect("tensors have axes"))
        .collect();
    let weights = weights(&noises, &exact, &widths);
    let weighted = |x: &[f64]| -> Vec<f64> { x.iter().zip(&weights).map(|(x, w)| x * w).collect() };
    let noises: Vec<Vec<f64>> = noises.iter().map(|noise| weighted(noise)).collect();
    let Some(nearest) = nearest(&noises, &weighted(&error)) else {
        return Ok(Residual::INFINITE);
    };

    let (mut worst, mut start) = (Residual::NONE, 0);
    for (watched, exact) in segment.watched.iter().zip(&exact) {
        let part = start..start + exact.len();
        let noise = nearest[part.clone()].iter().zip(&weights[part]).map(|(x, w)| x / w);
        let predicted: Vec<f64> = exact.iter().zip(noise).map(|(e, noise)| e + noise).collect();
        worst = worst.worse(watched.residual(&predicted));
        start += exact.len();
    }
    Ok(worst)
}

/// All tensors' differences, one tensor after the other.
fn difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<f64> {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a - b).collect()
}

/// What makes the noise equally large everywhere: a massive token has a thousand times the others'. Rows, along the
/// last axis, are of one token.
fn weights(noises: &[Vec<f64>], tensors: &[Vec<f64>], widths: &[usize]) -> Vec<f64> {
    let (mut weights, mut start) = (Vec::new(), 0);
    for (tensor, width) in tensors.iter().zip(widths) {
        let size = |from: usize, length: usize| {
            let rows = noises.iter().map(|noise| &noise[from..from + length]);
            (rows.map(|row| dot(row, row)).sum::<f64>() / (length.max(1) * noises.len()) as f64).sqrt()
        };
        // No noise at all is that of float64.
        let values = (dot(tensor, tensor) / tensor.len().max(1) as f64).sqrt().max(1e-9);
        let whole = size(start, tensor.len()).max(1e-12 * values);
        for row in tensor.chunks(*width) {
            let weight = 1.0 / (size(start, row.len()) + 1e-3 * whole);
            weights.extend(std::iter::repeat_n(weight, row.len()));
            start += row.len();
        }
    }
    weights
}

/// The combination of `noises` that is nearest to `error`, of no more than the loudest noise; `None` where something
/// is not finite.
fn nearest(noises: &[Vec<f64>], error: &[f64]) -> Option<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut nearest = vec![0.0; error.len()];
    let mut loudest = 0.0_f64;
    for noise in noises {
        let size = dot(noise, noise).sqrt();
        loudest = loudest.max(size);
        let mut rest = noise.clone();
        // Twice, for what rounding leaves the first time.
        for _ in 0..2 {
            for known in &basis {
                let share = dot(known, &rest);
                rest.iter_mut().zip(known).for_each(|(rest, known)| *rest -= share * known);
            }
        }
        let left = dot(&rest, &rest).sqrt();
        if left > 1e-9 * size {
            rest.iter_mut().for_each(|x| *x /= left);
            let share = dot(&rest, error);
            nearest.iter_mut().zip(&rest).for_each(|(nearest, x)| *nearest += share * x);
            basis.push(rest);
        }
    }
    let size = dot(&nearest, &nearest).sqrt();
    let factor = (LOUDEST * loudest / size.max(f64::MIN_POSITIVE)).min(1.0);
    nearest.iter_mut().for_each(|x| *x *= factor);
    size.is_finite().then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_leads_where_it_leads_and_no_further() {
        let noises = [vec![1.0, 0.0, 0.0, 0.0], vec![1.0, 1.0, 0.0, 0.0], vec![2.0, 1.0, 0.0, 0.0]];
        let near = nearest(&noises, &[3.0, -2.0, 5.0, 0.0]).unwrap();
        assert_eq!(near.iter().map(|x| x.round()).collect::<Vec<_>>(), [3.0, -2.0, 0.0, 0.0]);
        let near = nearest(&noises, &[1e6, 0.0, 0.0, 0.0]).unwrap();
        assert!((near[0] - LOUDEST * 5.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(nearest(&noises, &[f64::NAN; 4]), None);
    }
}
