//! A model whose parts lie on several devices computes what it computes on one.
#![cfg(all(feature = "flex", feature = "ndarray"))]

use burn::tensor::{DType, Device, Tensor};
use qwen3_model::{
    DeviceMap, Extent, Kernel, Logits, ModelPart, Observed, Qwen3, Qwen3Config, RandomWeights, Session,
    SessionOptions, Site, Tap, Taps,
};

fn flex() -> Device {
    Device::flex()
}

#[allow(deprecated, reason = "a second device")]
fn ndarray() -> Device {
    Device::ndarray()
}

/// Each layer of a model with three on a device of its own; the middle one apart, so that there is a way back.
fn map() -> DeviceMap {
    DeviceMap::of_ranges([(0..=0, flex()), (1..=1, ndarray()), (2..=2, flex())], 3).unwrap()
}

/// As [`map`], with the embedding on another device than the head.
fn ends_apart() -> DeviceMap {
    DeviceMap::of_ranges([(0..=0, ndarray()), (1..=2, flex())], 3).unwrap()
}

fn build(config: &Qwen3Config, map: &DeviceMap) -> Qwen3 {
    Qwen3::build_on(&mut RandomWeights::new(11, &flex(), DType::F32), config, Extent::Whole, map).unwrap()
}

fn one_device(config: &Qwen3Config) -> Qwen3 {
    Qwen3::build(&mut RandomWeights::new(11, &flex(), DType::F32), config).unwrap()
}

fn close(found: &Tensor<2>, expected: &Tensor<2>) {
    assert_eq!(found.dims(), expected.dims());
    let [found, expected] =
        [found, expected].map(|logits| logits.to_data().iter::<f32>().collect::<Vec<_>>());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
}

/// Tied and untied, with windows and with YaRN: all with three layers.
fn configs() -> [Qwen3Config; 4] {
    [Qwen3Config::tiny(), Qwen3Config::tiny_untied(), Qwen3Config::tiny_windows(), Qwen3Config::tiny_yarn()]
        .map(|config| Qwen3Config { num_hidden_layers: 3, ..config })
}

fn prompt(count: u32, first: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 29 + first) % 61).collect()
}

/// Unequal prompts in chunks, steps, and going back to an earlier token.
#[test]
fn sessions_are_those_of_one_device() {
    for config in configs() {
        let expected = one_device(&config);
        for map in [map(), ends_apart(), DeviceMap::whole(ndarray(), 3)] {
            let model = build(&config, &map);
            let options = SessionOptions { batch: 2, capacity: 40, chunk_size: 4 };
            let [mut found, mut expected] =
                [&model, &expected].map(|model| Session::new(model, options).unwrap());
            let prompts = [prompt(11, 1), prompt(7, 5)];
            close(&found.prefill(&prompts).unwrap(), &expected.prefill(&prompts).unwrap());
            for token in 0..3 {
                let tokens = [token + 2, token + 9];
                close(&found.step(&tokens).unwrap(), &expected.step(&tokens).unwrap());
            }
            for session in [&mut found, &mut expected] {
                session.truncate(12);
                session.grow(48).unwrap();
            }
            assert_eq!(found.used(), expected.used());
            close(&found.prefill(&[[3], [4]]).unwrap(), &expected.prefill(&[[3], [4]]).unwrap());
        }
    }
}

/// Without a cache, too; and by Burn's own operations alone.
#[test]
fn whole_sequences_are_those_of_one_device() {
    let config = Qwen3Config::tiny();
    let (model, expected) = (build(&config, &ends_apart()), one_device(&config));
    for kernel in [Kernel::Fast, Kernel::Reference] {
        let logits = |model: &Qwen3| {
            let model = model.clone().with_kernel(kernel);
            let ids = Tensor::from_ints([[5, 9, 2, 33, 8]], &model.device());
            model.forward(ids).squeeze_dim::<2>(0)
        };
        close(&logits(&model), &logits(&expected));
    }
}

/// Every tensor is on the device of its part: nothing is computed elsewhere and fetched.
#[test]
fn every_part_computes_where_the_map_says() {
    for config in configs() {
        for map in [map(), ends_apart()] {
            let model = build(&config, &map);
            let (mut seen, mut devices) = (0, Vec::new());
            let mut observe = |site: Site, value: Observed| {
                let device = match value {
                    Observed::Rank3(tensor) => tensor.device(),
                    Observed::Rank4(tensor) => tensor.device(),
                };
                let part = match (site.layer, site.tap) {
                    (Some(layer), _) => ModelPart::Layer(layer),
                    (None, Tap::Embedding) => ModelPart::Embedding,
                    _ => ModelPart::End,
                };
                assert_eq!(device, *map.device(part), "{site}");
                seen += 1;
                devices.push(device);
            };
            let options = SessionOptions { batch: 1, capacity: 16, chunk_size: 16 };
            let mut session = Session::new(&model, options).unwrap();
            let logits =
                session.prefill_with(&[prompt(5, 3)], Logits::All, &mut Taps::new(&mut observe)).unwrap();
            assert_eq!(logits.device(), *map.device(ModelPart::End));
            assert_eq!(seen, 3 + 3 * 13);
            // Tokens cross as many edges as the map has.
            let edges = devices.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert_eq!(edges, map.stages().len() - 1);
        }
    }
}

/// The embedding is not fetched for every token, and not held twice where once will do.
#[test]
fn a_tied_head_lies_where_it_is_computed() {
    let tied = Qwen3Config::tiny();
    assert!(build(&tied, &map()).lm_head.is_none());
    assert!(build(&tied, &DeviceMap::whole(ndarray(), 3)).lm_head.is_none());
    let model = build(&tied, &ends_apart());
    let head = model.lm_head.as_ref().unwrap();
    let copies = head.weight.iter().zip(&model.model.embed_tokens.weight);
    for (head, embedding) in copies {
        assert_eq!((head.val().device(), embedding.val().device()), (flex(), ndarray()));
        assert_eq!(head.val().into_data(), embedding.val().into_data());
    }
}
