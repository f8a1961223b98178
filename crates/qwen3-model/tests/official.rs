//! The official shapes build, a part in memory at a time.
//!
//! Layers of random weights, which take a minute and, for the largest, 5 GB:
//! `cargo test --release -p qwen3-model --features flex --test official -- --ignored`
#![cfg(feature = "flex")]

use std::convert::Infallible;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};
use qwen3_model::{
    DecoderLayer, Official, Parts, RandomWeights, Rows, StepPlan, Streamed, Taps, WeightSource,
};

/// One zero in every place, which costs no memory; counts the values.
#[derive(Default)]
struct Zeros {
    values: usize,
}

impl WeightSource for &mut Zeros {
    type Error = Infallible;

    fn tensor<const D: usize>(&mut self, _: &str, shape: [usize; D]) -> Result<Tensor<D>, Infallible> {
        self.values += shape.iter().product::<usize>();
        Ok(Tensor::<D>::zeros([1; D], (&Device::flex(), DType::BF16)).expand(shape))
    }

    fn rows(
        &mut self,
        key: &str,
        [_, columns]: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Tensor<2>, Infallible> {
        self.tensor(key, [rows.len(), columns])
    }
}

/// Every kind of part of every model is built and dropped, and what was asked for is what the config counts. Of layers,
/// which are alike in each of these models, the first and the last.
#[test]
fn every_official_model_builds_part_by_part() {
    for official in Official::all() {
        let config = official.config();
        let mut source = Zeros::default();
        let mut parts = Streamed::new(&mut source, &config);
        parts.embedding().unwrap();
        let last = config.num_hidden_layers - 1;
        for layer in [0, last] {
            parts.layer(layer).unwrap();
        }
        parts.end().unwrap();
        let between: usize = (1..last).map(|layer| config.layer_parameters(layer)).sum();
        // Where the head is tied, the embedding was read for the end once more.
        let again = if config.tie_word_embeddings { config.vocabulary_parameters() } else { 0 };
        assert_eq!(source.values + between, config.num_parameters() + again, "{}", official.name);
    }
}

/// A layer of each official shape, of random weights, makes finite numbers of a token.
#[test]
#[ignore = "a minute and 5 GB: see above"]
fn a_layer_of_each_official_shape_computes() {
    let device = Device::flex();
    for official in Official::all() {
        let config = official.config();
        let mut source = RandomWeights::new(7, &device, DType::BF16);
        let layer = DecoderLayer::build(&mut source, &config, 0).unwrap();
        let shape = [1, 2, config.hidden_size];
        let x = Tensor::<3>::random(shape, burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        let step = StepPlan::new(&config).uncached(&Rows::unpadded(1, 2), &device);
        let y = layer.forward(x.cast(DType::BF16), &step, None, &mut Taps::none());
        assert_eq!(y.dims(), shape);
        let largest: f32 = y.cast(DType::F32).abs().max().into_scalar();
        assert!(largest.is_finite() && largest > 0.1, "{}: {largest}", official.name);
    }
}
