//! Keys that begin otherwise, and matrices stored as eight bits.

use burn::tensor::DType;
use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::common::*;
use crate::compare::*;

/// The keys of `Qwen3Model`, as the embedding checkpoints have them.
fn bare(tensors: &Tensors) -> Tensors {
    tensors.iter().map(|(key, stored)| (key.replacen("model.", "", 1), stored.clone())).collect()
}

#[test]
fn keys_without_the_prefix_are_the_same_model() {
    for tied in [true, false] {
        let tensors = tensors(tied);
        let model = Folder::with(tied, &bare(&tensors)).load(DType::F32).unwrap();
        assert_holds(&model, &tensors, (DType::F32, Dtype::F32));
    }
    // Errors spell keys as the file does.
    let mut tensors = bare(&tensors(true));
    let norm = tensors.remove("norm.weight").unwrap();
    Folder::with(true, &tensors).refused("MissingKey", WEIGHTS, "norm.weight");
    tensors.insert("norm.weight".into(), norm.clone());
    tensors.insert("model.norm.weight".into(), norm);
    Folder::with(true, &tensors).refused("UnusedKey", WEIGHTS, "model.norm.weight");
    let mut tied = bare(&tensors_with_head());
    Folder::with(true, &tied).load(DType::F32).unwrap();
    tied.get_mut(HEAD).unwrap().set(3, 9.0);
    Folder::with(true, &tied).refused("TiedWeightsDiffer", WEIGHTS, "");
}

/// Tied, with a head that is the embedding.
fn tensors_with_head() -> Tensors {
    let mut tensors = tensors(true);
    let embedding = tensors[EMBEDDING].clone();
    tensors.insert(HEAD.into(), embedding);
    tensors
}

#[test]
fn a_wrapper_is_named() {
    for prefix in ["base_model.model.", "module.", "_orig_mod."] {
        let wrapped = tensors(true).into_iter().map(|(key, stored)| (format!("{prefix}{key}"), stored));
        let detail = format!("{prefix}{EMBEDDING} {prefix}");
        Folder::with(true, &wrapped.collect()).refused("Wrapped", WEIGHTS, &detail);
    }
    // A wrapper that nobody knows: the first key that is missing.
    let wrapped = tensors(true).into_iter().map(|(key, stored)| (format!("my.{key}"), stored));
    Folder::with(true, &wrapped.collect()).refused("MissingKey", WEIGHTS, EMBEDDING);
}

const ROWS: usize = 3;
const COLUMNS: usize = 5;

/// Matrices of layers in blocks that divide neither rows nor columns.
fn fp8_config() -> Value {
    let mut config = config(false);
    config["quantization_config"] = json!({
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": [ROWS, COLUMNS],
    });
    config
}

/// Is it a matrix that official checkpoints quantise?
fn is_quantised(key: &str) -> bool {
    key.ends_with("_proj.weight")
}

fn scales(key: &str) -> String {
    format!("{key}_scale_inv")
}

/// The quantised checkpoint, and the numbers that are in it.
fn fp8() -> (Tensors, Tensors) {
    let (mut quantised, mut plain) = (tensors(false), tensors(false));
    for (key, stored) in tensors(false).into_iter().filter(|(key, _)| is_quantised(key)) {
        let [rows, columns] = stored.shape[..] else { panic!("{key} is no matrix") };
        // Every number of the format but NaN.
        let byte = |index: usize| (index * 37 + key.len()) as u8;
        let bytes = (0..rows * columns).map(|i| if byte(i) & 0x7f == 0x7f { 0 } else { byte(i) });
        let bytes: Vec<u8> = bytes.collect();
        let across = columns.div_ceil(COLUMNS);
        let shape = [rows.div_ceil(ROWS), across];
        let by_block: Vec<f32> = (0..shape[0] * across).map(|i| 0.01 + 0.003 * i as f32).collect();
        let value = |(index, byte): (usize, &u8)| {
            // The same bits in f16 are 2^8 times smaller.
            let bits = u16::from(byte & 0x80) << 8 | u16::from(byte & 0x7f) << 7;
            let number = 256.0 * f16::from_bits(bits).to_f32();
            number * by_block[index / columns / ROWS * across + index % columns / COLUMNS]
        };
        let values: Vec<f32> = bytes.iter().enumerate().map(value).collect();
        plain.insert(key.clone(), Stored::new(Dtype::F32, &stored.shape, &values));
        quantised.insert(scales(&key), Stored::new(Dtype::F32, &shape, &by_block));
        quantised.insert(key, Stored { dtype: Dtype::F8_E4M3, shape: stored.shape, bytes });
    }
    (quantised, plain)
}

fn fp8_folder(tensors: &Tensors) -> Folder {
    Folder::new(&fp8_config()).write(WEIGHTS, safetensors(tensors))
}

#[test]
fn blocks_of_eight_bits_are_multiplied_by_their_scales() {
    let (quantised, plain) = fp8();
    let folder = fp8_folder(&quantised);
    assert_holds(&folder.load(DType::F32).unwrap(), &plain, (DType::F32, Dtype::F32));
    assert_holds(&folder.load(DType::BF16).unwrap(), &plain, (DType::BF16, Dtype::BF16));
    assert_holds(&folder.load(DType::F16).unwrap(), &plain, (DType::F16, Dtype::F16));
    // Scales in half precision, and without the prefix.
    let half = |(key, stored): (&String, &Stored)| {
        let is_scale = key.ends_with("_scale_inv");
        (key.clone(), if is_scale { stored.cast(Dtype::BF16).cast(Dtype::F32) } else { stored.clone() })
    };
    let rounded: Tensors = quantised.iter().map(half).collect();
    let mut stored = rounded.clone();
    for (_, scale) in stored.iter_mut().filter(|(key, _)| key.ends_with("_scale_inv")) {
        *scale = scale.cast(Dtype::BF16);
    }
    let expected = fp8_folder(&rounded).load(DType::F32).unwrap();
    assert_same(&fp8_folder(&bare(&stored)).load(DType::F32).unwrap(), &expected);
}

#[test]
fn scales_that_do_not_fit_are_named() {
    let (quantised, _) = fp8();
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = quantised.clone();
        change(&mut tensors);
        fp8_folder(&tensors)
    };
    // [16, 8] in blocks of [3, 5].
    let key = scales(Q_PROJ);
    let wrong = Stored::new(Dtype::F32, &[6, 1], &[1.0; 6]);
    changed(&|tensors| drop(tensors.insert(key.clone(), wrong.clone()))).refused(
        "Shape",
        WEIGHTS,
        &format!("{key} [6, 1] for [6, 2]"),
    );
    changed(&|tensors| drop(tensors.remove(&key))).refused("MissingKey", WEIGHTS, &key);
    changed(&|tensors| {
        let stored = tensors[&key].cast(Dtype::F64);
        tensors.insert(key.clone(), stored);
    })
    .refused("TensorDType", WEIGHTS, &format!("{key} F64"));
    changed(&|tensors| tensors.get_mut(&key).unwrap().set(2, f32::NAN)).refused(
        "NonFinite",
        WEIGHTS,
        &format!("{key}[2] = NaN as F32"),
    );
    changed(&|tensors| tensors.get_mut(Q_PROJ).unwrap().bytes[9] = 0xff).refused(
        "NonFinite",
        WEIGHTS,
        &format!("{Q_PROJ}[9] = NaN as F32"),
    );
    // The scale of a matrix that has none.
    let key = scales(HEAD);
    let scale = Stored::new(Dtype::F32, &[4, 2], &[1.0; 8]);
    changed(&|tensors| drop(tensors.insert(key.clone(), scale.clone()))).refused("UnusedKey", WEIGHTS, &key);
    // Without a word in the config.
    let folder = Folder::new(&config(false)).write(WEIGHTS, safetensors(&quantised));
    folder.refused("TensorDType", WEIGHTS, "model.layers.0.self_attn.q_proj.weight F8_E4M3");
}
