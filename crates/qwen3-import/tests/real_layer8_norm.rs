//! RMSNorm against four cases of the real Qwen3-0.6B: layer 8's two norms, in bf16.
//!
//! The files lie in the project's shared assets beside the checkout; without them nothing is checked,
//! and the test says so.
#![cfg(any(feature = "flex", feature = "tch"))]

use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_model::{RmsNorm, WeightSource};
use safetensors::SafeTensors;

fn devices() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        ("tch", Device::libtorch()),
    ]
}

/// One bf16 tensor as the source of every weight.
struct OneTensor<'a>(&'a [u8], &'a Device);

impl WeightSource for OneTensor<'_> {
    type Error = Infallible;

    fn tensor<const D: usize>(&mut self, _: &str, shape: [usize; D]) -> Result<Tensor<D>, Infallible> {
        Ok(tensor(self.0, shape, self.1))
    }

    fn rows(&mut self, _: &str, _: [usize; 2], _: Range<usize>) -> Result<Tensor<2>, Infallible> {
        unreachable!("a norm has no rows")
    }
}

fn tensor<const D: usize>(bytes: &[u8], shape: [usize; D], device: &Device) -> Tensor<D> {
    let data = TensorData::from_bytes_vec(bytes.to_vec(), shape, DType::BF16);
    Tensor::from_data(data, (device, DType::BF16))
}

/// Numbers the bf16 values in their order, so that neighbours differ by one.
fn ordered(bytes: &[u8]) -> impl Iterator<Item = i32> {
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs.iter().map(|pair| {
        let bits = i32::from(u16::from_le_bytes(*pair));
        if bits < 0x8000 { bits } else { 0x8000 - bits }
    })
}

#[test]
fn agrees_with_the_real_layer_within_one_ulp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets/real-layer8-norm");
    let Ok(weights) = std::fs::read(folder.join("weights.safetensors")) else {
        eprintln!("not checked: no real layer at {}", folder.display());
        return;
    };
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let norms = ["input_layernorm", "input_layernorm", "post_attention_layernorm", "input_layernorm"];
    for (device_name, device) in devices() {
        for (number, name) in norms.iter().enumerate() {
            let file = folder.join(format!("norm-Qwen3-0.6B-{number:02}.safetensor"));
            let file = std::fs::read(file).unwrap();
            let case = SafeTensors::deserialize(&file).unwrap();
            let input = case.tensor("input_hidden_states").unwrap();
            let expected = case.tensor("output").unwrap();
            let [batch, seq, hidden] = input.shape().try_into().unwrap();

            let weight = weights.tensor(&format!("{name}.weight")).unwrap();
            let mut source = OneTensor(weight.data(), &device);
            let norm = RmsNorm::build(&mut source, name, hidden, 1e-6).unwrap();
            let output = norm.forward::<3>(tensor(input.data(), [batch, seq, hidden], &device));

            let output = output.into_data();
            assert_eq!(output.dtype(), DType::BF16);
            let pairs = ordered(output.as_bytes()).zip(ordered(expected.data()));
            let distances = pairs.map(|(a, b)| (a - b).abs()).collect::<Vec<_>>();
            let unequal = distances.iter().filter(|distance| **distance > 0).count();
            eprintln!(
                "{device_name}, case {number}: {unequal} of {} elements differ in their bits",
                distances.len()
            );
            assert_eq!(distances.len(), batch * seq * hidden);
            assert!(distances.iter().all(|distance| *distance <= 1), "case {number}");
            // The order of rounding decides a quarter of the elements; a sum in another order, hardly any.
            assert!(unequal * 100 <= distances.len(), "case {number}: {unequal} differ");
        }
    }
}
