//! What may have happened to a whole tensor: changes of what it should hold, each tried.

use qwen3_config::Qwen3Config;
use qwen3_report::doctor::Ailment;

use crate::formats::relative;
use crate::pair::Pair;
use crate::rank::difference_rank;
use crate::rows::factor;

/// What happened, and with which number.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// What.
    pub id: Ailment,
    /// In a few words that follow the tensor's name.
    pub what: String,
    /// The number that values are multiplied with.
    pub factor: Option<f64>,
}

impl Whole {
    fn new(id: Ailment, what: impl Into<String>) -> Self {
        Self { id, what: what.into(), factor: None }
    }
}

/// The first change that explains what the tensor holds.
pub fn whole(pair: &Pair, config: &Qwen3Config) -> Option<Whole> {
    transposed(pair)
        .or_else(|| rotary(pair, config))
        .or_else(|| shifted(pair))
        .or_else(|| scaled(pair))
        .or_else(|| scaled_rows(pair))
        .or_else(|| scaled_columns(pair))
        .or_else(|| low_rank(pair))
}

/// `values` in rows of `columns`, with rows and columns exchanged.
pub fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let mut all = Vec::with_capacity(values.len());
    for column in 0..columns {
        all.extend((0..rows).map(|row| values[row * columns + column]));
    }
    all
}

fn transposed(pair: &Pair) -> Option<Whole> {
    let (rows, columns) = (pair.rows(), pair.columns);
    // Some of the values tell most matrices apart from it.
    let some: Vec<usize> = (0..SOME.min(pair.found.len())).map(|at| at * pair.found.len() / SOME).collect();
    let found: Vec<f32> = some.iter().map(|at| pair.found[*at]).collect();
    let expected: Vec<f32> = some.iter().map(|at| pair.expected[at % rows * columns + at / rows]).collect();
    if rows < 2 || relative(&found, &expected) > 0.5 {
        return None;
    }
    let what = match rows == columns {
        true => "rows and columns are exchanged",
        false => "the values are in the order of the transposed matrix, and the shape is not",
    };
    pair.to(&transpose(pair.expected, columns)).map(|_| Whole::new(Ailment::Transposed, what))
}

/// So many values are looked at first.
const SOME: usize = 1024;

/// Is it of queries or keys, whose features are rotated in pairs?
fn is_rotated(key: &str) -> bool {
    ["q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias", "q_norm.weight", "k_norm.weight"]
        .iter()
        .any(|name| key.ends_with(name))
}

/// The rows, or values of a vector, with the two halves of each head interleaved; back where `back`.
pub fn interleaved(values: &[f32], head_dim: usize, row: usize, back: bool) -> Option<Vec<f32>> {
    let head = head_dim * row;
    if head == 0 || !values.len().is_multiple_of(head) || !head_dim.is_multiple_of(2) {
        return None;
    }
    let mut all = vec![0.0; values.len()];
    for (from, to) in values.chunks(head).zip(all.chunks_mut(head)) {
        for feature in 0..head_dim {
            // llama.cpp's `LlamaModel.permute`.
            let other = feature % 2 * (head_dim / 2) + feature / 2;
            let (from_row, to_row) = if back { (feature, other) } else { (other, feature) };
            to[to_row * row..][..row].copy_from_slice(&from[from_row * row..][..row]);
        }
    }
    Some(all)
}

fn rotary(pair: &Pair, config: &Qwen3Config) -> Option<Whole> {
    if !is_rotated(pair.key) {
        return None;
    }
    let row = if pair.rows() > 1 { pair.columns } else { 1 };
    let tried = [
        (false, Ailment::InterleavedRope, "the halves of each head are interleaved"),
        (true, Ailment::HalvedRope, "the pairs of each head are put into halves once too often"),
    ];
    tried.into_iter().find_map(|(back, id, what)| {
        let expected = interleaved(pair.expected, config.head_dim, row, back)?;
        pair.to(&expected).map(|_| Whole::new(id, what))
    })
}

fn shifted(pair: &Pair) -> Option<Whole> {
    if !pair.key.contains("norm") {
        return None;
    }
    let tried = [
        (
            -1.0,
            Ailment::NormMinusOne,
            "one is taken from every weight, for norms that multiply with 1 + weight",
        ),
        (
            1.0,
            Ailment::NormPlusOne,
            "one is added to every weight, as by norms that multiply with 1 + weight",
        ),
    ];
    tried.into_iter().find_map(|(change, id, what)| {
        let expected: Vec<f32> = pair.expected.iter().map(|value| value + change).collect();
        pair.to(&expected).map(|_| Whole::new(id, what))
    })
}

/// Are all values multiplied with one number?
pub fn scaled(pair: &Pair) -> Option<Whole> {
    let factor = factor(pair.found, pair.expected)?;
    let expected: Vec<f32> = pair.expected.iter().map(|value| (f64::from(*value) * factor) as f32).collect();
    pair.to(&expected)?;
    let what = format!("every value is multiplied with {}", number(factor));
    Some(Whole { factor: Some(factor), ..Whole::new(Ailment::Scaled, what) })
}

/// A number with as many digits as tell it.
pub fn number(value: f64) -> String {
    let short = format!("{value:.4}");
    let nice = short.trim_end_matches('0').trim_end_matches('.');
    if nice.parse() == Ok(0.0) { format!("{value:.3e}") } else { nice.into() }
}

/// Too few values say nothing of a factor of their own.
const LEAST: usize = 8;

fn scaled_rows(pair: &Pair) -> Option<Whole> {
    if pair.rows() < 2 || pair.columns < LEAST {
        return None;
    }
    let factors = |row| factor(pair.found_row(row), pair.expected_row(row)).unwrap_or(1.0);
    let factors: Vec<f64> = (0..pair.rows()).map(factors).collect();
    let expected = pair.expected.chunks(pair.columns).zip(&factors);
    let expected: Vec<f32> = expected
        .flat_map(|(row, factor)| row.iter().map(move |value| (f64::from(*value) * factor) as f32))
        .collect();
    pair.to(&expected)?;
    Some(Whole::new(
        Ailment::ScaledRows,
        format!("every row is multiplied with a number of its own, {}", span(&factors)),
    ))
}

fn scaled_columns(pair: &Pair) -> Option<Whole> {
    let rows = pair.rows();
    if rows < LEAST {
        return None;
    }
    let (mut products, mut squares) = (vec![0.0; pair.columns], vec![0.0; pair.columns]);
    for (found, expected) in pair.found.chunks(pair.columns).zip(pair.expected.chunks(pair.columns)) {
        for (column, (f, e)) in found.iter().zip(expected).enumerate() {
            products[column] += f64::from(*f) * f64::from(*e);
            squares[column] += f64::from(*e) * f64::from(*e);
        }
    }
    let factors: Vec<f64> = products
        .iter()
        .zip(&squares)
        .map(|(product, square)| if *square > 0.0 { product / square } else { 1.0 })
        .collect();
    let scaled = |(at, value): (usize, &f32)| (f64::from(*value) * factors[at % pair.columns]) as f32;
    let expected: Vec<f32> = pair.expected.iter().enumerate().map(scaled).collect();
    pair.to(&expected)?;
    let what = format!(
        "every column is multiplied with a number of its own, {}, as where the weights of a norm are multiplied into \
         the matrix behind it",
        span(&factors)
    );
    Some(Whole::new(Ailment::ScaledColumns, what))
}

fn span(factors: &[f64]) -> String {
    let least = factors.iter().copied().fold(f64::INFINITY, f64::min);
    let most = factors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} to {}", number(least), number(most))
}

fn low_rank(pair: &Pair) -> Option<Whole> {
    let rank = difference_rank(pair)?;
    let what = format!(
        "the difference is a matrix of rank {rank}, as where an adapter (LoRA) is merged into it, or was into the original"
    );
    Some(Whole::new(Ailment::LowRank, what))
}
