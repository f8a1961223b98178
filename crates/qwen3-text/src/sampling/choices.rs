use burn::tensor::{DType, FloatDType, Tensor};

use super::SamplingOptions;

/// Ids below this are exact in the float32 that they travel in.
const EXACT_IDS: usize = 1 << 24;

/// What the next token of each sequence is chosen from, on the host.
#[derive(Debug, PartialEq)]
pub(crate) enum Choices {
    /// Chosen already, where the logits are: one token for each sequence.
    Ids(Vec<u32>),
    /// Whole rows of logits, one behind the other.
    Rows(Vec<f32>),
}

impl Choices {
    /// From `logits` `[batch, vocab_size]` of any dtype: ids where these options take the largest logit and
    /// every logit is finite, rows otherwise.
    pub(crate) fn new(logits: Tensor<2>, options: &SamplingOptions) -> Self {
        let ids = options.takes_largest().then(|| largest(logits.clone())).flatten();
        ids.map_or_else(|| Self::Rows(logits.into_data().iter().collect()), Self::Ids)
    }
}

/// The id of the largest logit of each row, of equal ones the lowest; `None` unless all logits, and the sum
/// of each row, are finite, for then a sampler has to look at them.
fn largest(logits: Tensor<2>) -> Option<Vec<u32>> {
    let [_, vocab_size] = logits.dims();
    if vocab_size == 0 || vocab_size > EXACT_IDS {
        return None;
    }
    let logits = logits.cast(DType::F32);
    // NaN and infinities survive every addition. The host looks for them: not every backend compares NaN as
    // IEEE 754 does, nor has the same argmax of it.
    let sums = logits.clone().sum_dim(1); // [batch, 1]
    let ids = logits.argmax(1).cast(FloatDType::F32); // [batch, 1]
    let pairs = Tensor::cat(vec![ids, sums], 1).into_data(); // [batch, 2]
    let pairs: Vec<f32> = pairs.iter().collect();
    let id = |pair: &[f32]| pair[1].is_finite().then_some(pair[0] as u32);
    pairs.chunks_exact(2).map(id).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;
    use crate::{Sampler, TextError};

    #[allow(deprecated, reason = "ndarray and tch are what this release of Burn is pinned for")]
    fn devices() -> Vec<Device> {
        vec![
            #[cfg(feature = "flex")]
            Device::flex(),
            #[cfg(feature = "ndarray")]
            Device::ndarray(),
            #[cfg(feature = "wgpu")]
            Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "tch")]
            Device::libtorch(),
        ]
    }

    fn choices(rows: &[Vec<f32>], options: &SamplingOptions, device: &Device) -> Choices {
        let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
        Choices::new(Tensor::from_data(data, (device, DType::F32)), options)
    }

    /// What each row leads to when it is read.
    fn on_the_host(rows: &[Vec<f32>]) -> Vec<Result<u32, TextError>> {
        let mut sampler = Sampler::new(SamplingOptions::default()).unwrap();
        rows.iter().map(|row| sampler.choose(row)).collect()
    }

    #[test]
    fn rows_are_read_only_where_something_looks_at_them() {
        let penalised = |repetition_penalty, presence_penalty| SamplingOptions {
            repetition_penalty,
            presence_penalty,
            ..SamplingOptions::default()
        };
        let drawn = SamplingOptions { greedy: false, ..SamplingOptions::default() };
        let rows = [vec![0.0, 2.0, 2.0, -1.0], vec![-3.0, -2.5, -4.0, -2.25]];
        for device in devices() {
            let ids = choices(&rows, &SamplingOptions::default(), &device);
            assert_eq!(ids, Choices::Ids(vec![1, 3]));
            for options in [penalised(1.1, 0.0), penalised(1.0, 0.5), drawn.clone()] {
                let read = choices(&rows, &options, &device);
                assert_eq!(read, Choices::Rows(rows.concat()), "{options:?}");
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_read() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 299] {
                let mut rows = [vec![1.0; 300], vec![-1.0; 300]];
                rows[1][at] = bad;
                for device in devices() {
                    let read = choices(&rows, &SamplingOptions::default(), &device);
                    let Choices::Rows(read) = read else {
                        panic!("{bad} at {at} is not noticed on {device:?}");
                    };
                    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&read), bits(&rows.concat()));
                }
            }
        }
    }

    proptest! {
        /// Few values and so many ties, rows on both sides of what backends vectorise, and sometimes a value
        /// that is not finite.
        #[test]
        fn ids_are_those_of_the_sampler(
            (batch, vocab_size) in (1usize..4, prop_oneof![1usize..70, 900usize..2100]),
            seeds in prop::collection::vec(any::<u32>(), 4),
            bad in prop_oneof![
                4 => Just(None),
                1 => prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).prop_map(Some),
            ],
        ) {
            let mut state = u64::from(seeds[0]) << 32 | u64::from(seeds[1]);
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32
            };
            let levels = if seeds[2] % 2 == 0 { 5.0 } else { 1e6 };
            let mut row = || (0..vocab_size).map(|_| (draw() * levels).floor() - levels / 2.0).collect();
            let mut rows: Vec<Vec<f32>> = (0..batch).map(|_| row()).collect();
            if let Some(bad) = bad {
                rows[seeds[3] as usize % batch][seeds[2] as usize % vocab_size] = bad;
            }
            let expected = on_the_host(&rows);
            for device in devices() {
                match choices(&rows, &SamplingOptions::default(), &device) {
                    Choices::Ids(ids) => {
                        prop_assert_eq!(bad, None);
                        let expected: Vec<u32> = expected.iter().map(|id| *id.as_ref().unwrap()).collect();
                        prop_assert_eq!(ids, expected);
                    }
                    Choices::Rows(_) => prop_assert!(bad.is_some()),
                }
            }
        }
    }
}
