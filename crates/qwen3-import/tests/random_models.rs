//! Two hundred random architectures, loaded as any checkpoint is, against the float64 logits of Transformers.
#![cfg(feature = "flex")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device};
use qwen3_import::load;
use qwen3_model::{Logits, Qwen3, Qwen3Config, Rope, Session, SessionOptions, Taps};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/random/models.safetensors");
/// What is allowed beside the floor of Transformers' own float32 run: the largest of so few values is seldom its worst.
const FLOORS: f64 = 8.0;
/// The same in units in the last place of the largest logit.
const ULPS: f64 = 8.0;

/// One model of the archive.
struct Entry<'a> {
    number: usize,
    tensors: &'a SafeTensors<'a>,
    metadata: &'a HashMap<String, String>,
}

impl Entry<'_> {
    fn tensor(&self, name: &str) -> TensorView<'_> {
        self.tensors.tensor(&format!("{:03}.{name}", self.number)).unwrap()
    }

    fn told(&self, name: &str) -> &str {
        &self.metadata[&format!("{:03}.{name}", self.number)]
    }

    /// Writes the checkpoint into `folder` and loads it.
    fn model(&self, folder: &Path) -> Qwen3 {
        let config = self.told("config");
        fs::write(folder.join("config.json"), config).unwrap();
        let mut weights: Vec<_> = Qwen3Config::from_json(config).unwrap().weights().collect();
        weights.sort_by(|a, b| a.key.cmp(&b.key));
        let flat = self.tensor("weights");
        let mut bytes = flat.data();
        let tensors = weights.into_iter().map(|weight| {
            let (own, rest) = bytes.split_at(2 * weight.shape.iter().product::<usize>());
            bytes = rest;
            (weight.key, TensorView::new(Dtype::BF16, weight.shape, own).unwrap())
        });
        let tensors: Vec<_> = tensors.collect();
        assert!(bytes.is_empty(), "{} bytes of weights are left", bytes.len());
        serialize_to_file(tensors, None, &folder.join("model.safetensors")).unwrap();
        load(folder, &Device::flex(), DType::F32).unwrap()
    }

    fn ints(&self, name: &str) -> Vec<Vec<i64>> {
        let tensor = self.tensor(name);
        let values: Vec<i64> =
            tensor.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        values.chunks(tensor.shape()[1]).map(<[i64]>::to_vec).collect()
    }

    /// The prompts without their padding.
    fn prompts(&self) -> Vec<Vec<u32>> {
        let (ids, mask) = (self.ints("input_ids"), self.ints("attention_mask"));
        let rows = ids.iter().zip(&mask);
        let tokens = |(ids, mask): (&Vec<i64>, &Vec<i64>)| {
            ids.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(id, _)| *id as u32).collect()
        };
        rows.map(tokens).collect()
    }

    /// What is too much in the logits of the model's tokens, if anything is.
    fn too_far(&self, what: &str, found: &[f32]) -> Option<String> {
        let expected = self.tensor("logits");
        let expected = expected.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let expected: Vec<f64> = expected.map(f64::from).collect();
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let floor: f64 = self.told("floor").parse().unwrap();
        let limit = FLOORS * floor + ULPS * f64::from(f32::EPSILON) * largest;
        let mask = self.ints("attention_mask").concat();
        let vocab = expected.len() / mask.len();
        let tokens = |index: &usize| mask[index / vocab] == 1;
        let errors = (0..expected.len()).filter(tokens).map(|i| (f64::from(found[i]) - expected[i]).abs());
        let error = errors.fold(0.0_f64, f64::max);
        (error > limit || found.iter().any(|value| !value.is_finite())).then(|| {
            format!(
                "model {}, {what}: off by {error:.2e} of {limit:.2e}; {}",
                self.number,
                self.told("config")
            )
        })
    }
}

/// The logits of all tokens, `[2, longest, vocab_size]`, read in chunks.
fn logits(model: &Qwen3, prompts: &[Vec<u32>], chunk_size: usize) -> Vec<f32> {
    let capacity = prompts.iter().map(Vec::len).max().unwrap();
    let mut session =
        Session::new(model, SessionOptions { batch: prompts.len(), capacity, chunk_size }).unwrap();
    let logits = session.prefill_with(prompts, Logits::All, &mut Taps::none()).unwrap();
    logits.into_data().try_into_vec().unwrap()
}

#[test]
fn every_random_model_gives_the_logits_of_transformers() {
    let bytes = fs::read(ARCHIVE).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let count: usize = metadata["models"].parse().unwrap();
    assert!(count >= 200, "{count} models");
    let mut wrong = Vec::new();
    let mut kinds = [0; 4];
    for number in 0..count {
        let entry = Entry { number, tensors: &tensors, metadata: &metadata };
        let folder = tempfile::tempdir().unwrap();
        let model = entry.model(folder.path());
        let prompts = entry.prompts();
        for chunk_size in [64, 3] {
            let found = logits(&model, &prompts, chunk_size);
            wrong.extend(entry.too_far(&format!("in chunks of {chunk_size}"), &found));
        }
        let has = [
            model.config.sparse.is_some(),
            model.config.windows.window().is_some(),
            !matches!(model.config.rope, Rope::Default { .. }),
            model.config.attention_bias,
        ];
        kinds.iter_mut().zip(has).for_each(|(kind, has)| *kind += usize::from(has));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * count, wrong.join("\n"));
    assert!(
        kinds.iter().all(|kind| kind * 5 > count),
        "experts, windows, scaled RoPE, biases: {kinds:?} of {count}"
    );
}
