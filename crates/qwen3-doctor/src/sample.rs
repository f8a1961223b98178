//! A few values of every tensor, by which another one's are recognised.

use std::collections::BTreeMap;

/// So many of each, evenly spaced.
const COUNT: usize = 256;

/// Values of the original's tensors, by key and with the shape.
#[derive(Default)]
pub struct Samples(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Samples {
    /// The sample of a tensor's values.
    pub fn of(values: &[f32]) -> Vec<f32> {
        let count = values.len().min(COUNT);
        (0..count).map(|at| values[at * values.len() / count]).collect()
    }

    /// Takes a tensor's sample.
    pub fn insert(&mut self, key: &str, shape: &[usize], sample: Vec<f32>) {
        self.0.insert(key.into(), (shape.into(), sample));
    }

    /// The keys of other tensors of `shape` that `values` may be, the likeliest first.
    pub fn like(&self, key: &str, shape: &[usize], values: &[f32]) -> Vec<&str> {
        let own = Self::of(values);
        let others = self.0.iter().filter(|(other, (its, _))| *other != key && its == shape);
        let near = others.map(|(other, (_, sample))| (distance(&own, sample), other.as_str()));
        // Of four bits, a tenth; of what is not the same at all, twice as much as there is.
        let mut near: Vec<(f64, &str)> = near.filter(|(distance, _)| *distance < 0.25).collect();
        near.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        near.into_iter().map(|(_, key)| key).collect()
    }
}

/// The mean square of the differences over that of what is expected.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    crate::formats::relative(found, expected).powi(2)
}
