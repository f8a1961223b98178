//! The key table that the config tells is what the model asks its source for.

use std::convert::Infallible;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};
use qwen3_model::{Qwen3, RandomWeights, WeightSource};

use crate::synthetic::presets;

/// Random weights, and what was asked for: each key, its shape, and the rows that were taken of it.
struct Asked {
    weights: RandomWeights,
    tensors: Vec<(String, Vec<usize>, Range<usize>)>,
}

impl WeightSource for Asked {
    type Error = Infallible;

    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, Infallible> {
        self.tensors.push((key.into(), shape.into(), 0..shape[0]));
        self.weights.tensor(key, shape)
    }

    /// Blocks of rows follow one another without a gap.
    fn rows(&mut self, key: &str, shape: [usize; 2], rows: Range<usize>) -> Result<Tensor<2>, Infallible> {
        match self.tensors.last_mut() {
            Some((last, same, taken)) if last == key && taken.end == rows.start => {
                assert_eq!(*same, shape, "{key}");
                taken.end = rows.end;
            }
            _ => self.tensors.push((key.into(), shape.into(), rows.clone())),
        }
        self.weights.rows(key, shape, rows)
    }
}

#[test]
fn the_model_asks_for_the_weights_of_its_config() {
    for (name, config) in presets() {
        let mut source =
            Asked { weights: RandomWeights::new(1, &Device::flex(), DType::F32), tensors: Vec::new() };
        Qwen3::build(&mut source, &config).unwrap();
        let told = config.weights().map(|weight| {
            let all = 0..weight.shape[0];
            (weight.key, weight.shape, all)
        });
        assert_eq!(source.tensors, told.collect::<Vec<_>>(), "{name}");
    }
}
