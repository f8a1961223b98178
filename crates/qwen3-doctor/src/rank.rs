//! Is a difference of low rank?

use qwen3_checkpoint::Encoding;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::formats::{agreement, half_step};
use crate::pair::Pair;

/// Adapters have a lower rank.
const MOST: usize = 64;
/// More directions than that, so that the last of them are found well.
const DIRECTIONS: usize = MOST + 8;
/// A larger matrix is looked at in part, of which the rank is no higher.
const SIDE: usize = 640;

/// The rank of what is added to the original, up to 64; `None` where that is not low.
pub fn difference_rank(pair: &Pair) -> Option<usize> {
    let (rows, columns) = (pair.rows().min(SIDE), pair.columns.min(SIDE));
    // Of a small matrix every rank is low.
    if rows.min(columns) < 2 * LEAST_OVER {
        return None;
    }
    let part = |values: &[f32]| -> Vec<f32> {
        values.chunks(pair.columns).take(rows).flat_map(|row| row[..columns].to_vec()).collect()
    };
    let (found, expected) = (part(pair.found), part(pair.expected));
    let difference: Vec<f64> =
        found.iter().zip(&expected).map(|(f, e)| f64::from(*f) - f64::from(*e)).collect();
    let most = DIRECTIONS.min(rows.min(columns) / 2);
    let basis = basis(&difference, columns, most);
    if basis.is_empty() || !is_rounding(pair, (&found, &expected), &projected(&difference, columns, &basis)) {
        return None;
    }
    let rank = rank(&difference, columns, &basis);
    (rank <= MOST && rank < most).then_some(rank)
}

/// Is what is left of the values behind what is `added` to those expected no more than rounding leaves?
fn is_rounding(pair: &Pair, (found, expected): (&[f32], &[f32]), added: &[f64]) -> bool {
    let there = expected.iter().zip(added).map(|(e, d)| f64::from(*e) + d);
    match pair.encoding {
        Encoding::Plain(precision) => {
            let square = |value: f64| value * value;
            let left: f64 = there.zip(found).map(|(there, f)| square(f64::from(*f) - there)).sum();
            let steps: f64 = found.iter().map(|value| square(half_step(*value, *precision).into())).sum();
            // Rounding is spread evenly over a step.
            left <= 2.0 * steps / 3.0
        }
        encoding => {
            let there: Vec<f32> = there.map(|value| value as f32).collect();
            agreement(found, &there, pair.columns.min(SIDE), encoding).is_some()
        }
    }
}

/// A matrix has to be so many times larger than the rank that is told of it.
const LEAST_OVER: usize = 8;

/// An orthonormal basis of what the matrix makes of so many random vectors.
fn basis(matrix: &[f64], columns: usize, count: usize) -> Vec<Vec<f64>> {
    let mut random = rand::rngs::StdRng::seed_from_u64(64);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for _ in 0..count {
        let direction: Vec<f64> = (0..columns).map(|_| StandardNormal.sample(&mut random)).collect();
        let mut image: Vec<f64> = matrix.par_chunks(columns).map(|row| dot(row, &direction)).collect();
        let length = dot(&image, &image).sqrt();
        // Twice, for what rounding leaves.
        for _ in 0..2 {
            for other in &basis {
                let along = dot(&image, other);
                image.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
        }
        let left = dot(&image, &image).sqrt();
        if left <= 1e-9 * length || left == 0.0 {
            break;
        }
        image.iter_mut().for_each(|value| *value /= left);
        basis.push(image);
    }
    basis
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What of the matrix lies along each of the `basis`: a row for each.
fn along(matrix: &[f64], columns: usize, basis: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let along = |direction: &Vec<f64>| {
        let mut sum = vec![0.0; columns];
        for (row, weight) in matrix.chunks(columns).zip(direction) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
        sum
    };
    basis.par_iter().map(along).collect()
}

fn projected(matrix: &[f64], columns: usize, basis: &[Vec<f64>]) -> Vec<f64> {
    let along = along(matrix, columns, basis);
    let row = |at: usize| -> Vec<f64> {
        let mut sum = vec![0.0; columns];
        for (direction, part) in basis.iter().zip(&along) {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += direction[at] * value);
        }
        sum
    };
    (0..matrix.len() / columns).into_par_iter().flat_map_iter(row).collect()
}

/// How many directions the matrix has that are not rounding: the longest first, each without those before it, as far as
/// they are a hundredth of the first.
fn rank(matrix: &[f64], columns: usize, basis: &[Vec<f64>]) -> usize {
    let mut along = along(matrix, columns, basis);
    let (mut rank, mut first) = (0, None);
    while let Some(at) = (0..along.len()).max_by(|a, b| {
        let square = |at: usize| dot(&along[at], &along[at]);
        square(*a).total_cmp(&square(*b))
    }) {
        let longest = along.swap_remove(at);
        let square = dot(&longest, &longest);
        if square <= 1e-4 * *first.get_or_insert(square) {
            break;
        }
        rank += 1;
        for other in &mut along {
            let part = dot(other, &longest) / square;
            other.iter_mut().zip(&longest).for_each(|(value, long)| *value -= part * long);
        }
    }
    rank
}
