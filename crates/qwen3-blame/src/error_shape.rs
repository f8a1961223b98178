//! What an error looks like that no known mistake explains.

use qwen3_config::Rows;

use crate::ops::dot;

/// An error smaller than this share of the whole is gone.
const GONE: f64 = 0.05;
/// No more than this part of the features are few.
const FEW: usize = 8;

/// Describes the difference of `observed` and `expected`, both `[tokens that count, features]`; `heads`
/// is how many heads the features make, where they do. `limit` is the largest error that passes.
pub fn describe(
    observed: &[f64],
    expected: &[f64],
    rows: &Rows,
    heads: Option<usize>,
    limit: f64,
) -> Vec<String> {
    let mut shape = Vec::new();
    if observed.iter().any(|value| !value.is_finite()) {
        let bad = observed.iter().filter(|value| !value.is_finite()).count();
        return vec![format!("{bad} of {} values are not finite", observed.len())];
    }
    let error: Vec<f64> = observed.iter().zip(expected).map(|(o, e)| o - e).collect();
    let norm = |x: &[f64]| dot(x, x).sqrt();
    let size = norm(&error);
    let count: usize = (0..rows.visible.len()).map(|row| rows.tokens(row)).sum();
    let features = observed.len() / count.max(1);
    if size == 0.0 || features == 0 {
        return shape;
    }

    let factor = dot(observed, expected) / dot(expected, expected).max(f64::MIN_POSITIVE);
    let rest = observed.iter().zip(expected).map(|(o, e)| o - factor * e);
    if norm(&rest.collect::<Vec<_>>()) < GONE * size {
        shape.push(format!("a scale: observed = {factor:.6} x expected"));
    }
    let mean = error.iter().sum::<f64>() / error.len() as f64;
    let rest: Vec<f64> = error.iter().map(|e| e - mean).collect();
    if norm(&rest) < GONE * size {
        shape.push(format!("a constant shift of {mean:.6e}"));
    } else if count > 1 {
        let column = |f: usize| error.iter().skip(f).step_by(features).sum::<f64>() / count as f64;
        let means: Vec<f64> = (0..features).map(column).collect();
        let rest = error.chunks(features).flat_map(|row| row.iter().zip(&means));
        if norm(&rest.map(|(e, m)| e - m).collect::<Vec<_>>()) < GONE * size {
            shape.push("a constant shift of each feature, the same at every position".into());
        }
    }
    let kept = observed
        .chunks(features)
        .zip(expected.chunks(features))
        .all(|(o, e)| (norm(o) - norm(e)).abs() <= 1e-3 * norm(e));
    if kept && size > 1e-2 * norm(expected) {
        shape.push("a rotation: every position keeps its length and changes its direction".into());
    }
    let some_heads = heads.and_then(|heads| some_heads(&error, features, heads, limit));
    shape.extend(some_features(&error, features, limit).or(some_heads));
    shape.extend(some_positions(&error, features, rows, limit));
    if shape.is_empty() {
        shape.push("spread over all positions and features, with no simple form, as that of other weights is: `doctor` compares \
             those, and a quantised GGUF file can be the --model itself"
                .into());
    }
    shape
}

fn largest<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(0.0, |largest, value| value.abs().max(largest))
}

fn some_heads(error: &[f64], features: usize, heads: usize, limit: f64) -> Option<String> {
    let head_dim = features / heads;
    let of = |head: usize| {
        let rows = error.chunks(features);
        rows.flat_map(move |row| &row[head * head_dim..(head + 1) * head_dim])
    };
    let wrong: Vec<usize> = (0..heads).filter(|head| largest(of(*head)) > limit).collect();
    let some = !wrong.is_empty() && wrong.len() < heads;
    some.then(|| format!("some heads only: {wrong:?} of {heads}"))
}

/// Which features are wrong, when those are few, as when one row of a weight is.
fn some_features(error: &[f64], features: usize, limit: f64) -> Option<String> {
    let of = |feature: usize| error.iter().skip(feature).step_by(features);
    let wrong: Vec<usize> = (0..features).filter(|feature| largest(of(*feature)) > limit).collect();
    let few = !wrong.is_empty() && wrong.len() <= features / FEW;
    few.then(|| format!("some features only: [{}]", ranges(&wrong)))
}

/// Which positions are wrong, when not all are; and whether the error grows along them.
fn some_positions(error: &[f64], features: usize, rows: &Rows, limit: f64) -> Vec<String> {
    let mut shape = Vec::new();
    let places = rows.visible.iter().enumerate().flat_map(|(row, seen)| {
        let seen = seen.iter().enumerate().filter(|(_, seen)| **seen);
        seen.map(move |(column, _)| (row, rows.positions[row][column]))
    });
    let sizes: Vec<_> = places.zip(error.chunks(features).map(|row| largest(row.iter()))).collect();
    let wrong: Vec<_> = sizes.iter().filter(|(_, size)| *size > limit).collect();
    if !wrong.is_empty() && wrong.len() < sizes.len() {
        let mut positions: Vec<usize> = wrong.iter().map(|((_, position), _)| *position).collect();
        positions.sort_unstable();
        positions.dedup();
        let mut wrong_rows: Vec<usize> = wrong.iter().map(|((row, _), _)| *row).collect();
        wrong_rows.dedup();
        let of_rows = match rows.visible.len() {
            1 => String::new(),
            _ => format!(" of rows {wrong_rows:?}"),
        };
        // The first token attends to itself alone, whatever attention does.
        let all_but_first = positions.first() == Some(&1)
            && sizes.iter().all(|((_, position), size)| *position == 0 || *size > limit);
        shape.push(if all_but_first {
            "at every position but the first: it is in what tokens take from others".into()
        } else {
            format!("some positions only: {}{of_rows}", ranges(&positions))
        });
    }
    let points: Vec<(f64, f64)> = sizes
        .iter()
        .filter(|(_, size)| *size > 0.0)
        .map(|((_, position), size)| (*position as f64, size.ln()))
        .collect();
    if points.len() >= 4 && correlation(&points) > 0.85 {
        shape.push("growing with the position".into());
    }
    shape
}

/// `[3, 4, 5, 9]` as `3..=5, 9`.
pub fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}..={last}"),
        [] => String::new(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

fn correlation(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let sums = points.iter().fold([0.0; 3], |[xy, xx, yy], p| {
        let (dx, dy) = (p.0 - x, p.1 - y);
        [xy + dx * dy, xx + dx * dx, yy + dy * dy]
    });
    sums[0] / (sums[1] * sums[2]).sqrt().max(f64::MIN_POSITIVE)
}
