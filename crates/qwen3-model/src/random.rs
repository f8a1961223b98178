use std::convert::Infallible;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use crate::{PlacedSource, WeightSource};

/// Seeded random weights, for tests and benchmarks.
///
/// Matrices have standard deviation `1 / sqrt(in)` so that activations stay of order one and
/// attention is not uniform; norm weights lie around one, biases around zero. Every tensor depends
/// on the seed and its key alone, so the same seed gives the same model on every backend.
#[derive(Debug)]
pub struct RandomWeights {
    seed: u64,
    device: Device,
    dtype: DType,
}

impl RandomWeights {
    /// Weights drawn from `seed`, on `device` and in `dtype`.
    pub fn new(seed: u64, device: &Device, dtype: DType) -> Self {
        Self { seed, device: device.clone(), dtype }
    }

    fn draw(&self, key: &str, count: usize, mean: f32, std: f32) -> Vec<f32> {
        // FNV-1a: the standard library's hashers promise no stable result.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = StdRng::seed_from_u64(self.seed ^ hash);
        (0..count)
            .map(|_| mean + std * <StandardNormal as Distribution<f32>>::sample(&StandardNormal, &mut rng))
            .collect()
    }
}

impl WeightSource for RandomWeights {
    type Error = Infallible;

    fn tensor<const D: usize>(&mut self, key: &str, shape: [usize; D]) -> Result<Tensor<D>, Infallible> {
        let (mean, std) = match (key.ends_with("norm.weight"), D) {
            (true, _) => (1.0, 0.3),
            (false, 1) => (0.0, 0.3),
            _ => (0.0, (shape[D - 1] as f32).sqrt().recip()),
        };
        let values = self.draw(key, shape.iter().product(), mean, std);
        let data = TensorData::new(values, shape).convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (&self.device, self.dtype)))
    }

    fn rows(
        &mut self,
        key: &str,
        [_, hidden]: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Tensor<2>, Infallible> {
        let values = self.draw(key, rows.end * hidden, 0.0, 1.0);
        let block = values[rows.start * hidden..].to_vec();
        let data = TensorData::new(block, [rows.len(), hidden]).convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (&self.device, self.dtype)))
    }
}

impl PlacedSource for RandomWeights {
    fn place(&mut self, device: &Device) {
        self.device = device.clone();
    }
}
