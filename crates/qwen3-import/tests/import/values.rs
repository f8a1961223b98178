//! The values that arrive: right, in the right dtype, and finite.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use qwen3_import::{Checkpoint, CheckpointSource, Loader, Progress};
use qwen3_model::{DecoderLayer, Qwen3, RmsNorm, WeightSource};
use safetensors::Dtype;

use crate::common::*;
use crate::compare::*;

const DTYPES: [(DType, Dtype); 3] =
    [(DType::F32, Dtype::F32), (DType::F16, Dtype::F16), (DType::BF16, Dtype::BF16)];

/// The untied checkpoint stored in `dtype`.
fn stored_as(dtype: Dtype) -> Tensors {
    let cast = |(key, stored): (String, Stored)| (key, stored.cast(dtype));
    tensors(false).into_iter().map(cast).collect()
}

#[test]
fn every_dtype_of_a_file_loads_in_every_dtype() {
    for (_, file) in DTYPES {
        let tensors = stored_as(file);
        let folder = Folder::with(false, &tensors);
        for dtype in DTYPES {
            let model = folder.load(dtype.0).unwrap();
            assert_eq!(model.dtype(), dtype.0);
            assert_holds(&model, &tensors, dtype);
        }
    }
}

#[test]
fn dtypes_may_be_mixed_in_a_file() {
    let mut tensors = tensors(false);
    for (number, stored) in tensors.values_mut().enumerate() {
        *stored = stored.cast(DTYPES[number % 3].1);
    }
    let model = Folder::with(false, &tensors).load(DType::F32).unwrap();
    assert_holds(&model, &tensors, DTYPES[0]);
}

#[test]
fn subnormals_signed_zeros_and_the_largest_values_survive() {
    let extremes = [0.0, -0.0, 1e-45, -1e-45, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 1.0];
    let mut tensors = tensors(false);
    tensors.insert(NORM.into(), Stored::new(Dtype::F32, &[8], &extremes));
    let model = Folder::with(false, &tensors).load(DType::F32).unwrap();
    assert_holds(&model, &tensors, DTYPES[0]);
}

#[test]
fn a_value_that_is_not_finite_is_named_with_its_index() {
    for file in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (key, index) in [(EMBEDDING, 87), (K_PROJ, 0), (HEAD, 12), (NORM, 7)] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut tensors = stored_as(file);
                tensors.get_mut(key).unwrap().set(index, bad);
                let folder = Folder::with(false, &tensors);
                folder.refused("NonFinite", WEIGHTS, &format!("{key}[{index}] = {bad} as F32"));
            }
        }
    }
}

#[test]
fn a_value_that_overflows_f16_is_named_as_it_was() {
    for (file, value) in [(Dtype::F32, 65520.0), (Dtype::F32, -1e30), (Dtype::BF16, 65536.0)] {
        let mut tensors = stored_as(file);
        tensors.get_mut(K_PROJ).unwrap().set(63, value);
        let folder = Folder::with(false, &tensors);
        let detail = format!("{K_PROJ}[63] = {value} as F16");
        folder.blames(folder.load(DType::F16), "NonFinite", WEIGHTS, &detail);
        folder.load(DType::F32).unwrap();
        folder.load(DType::BF16).unwrap();
    }
    let mut tensors = tensors(false);
    tensors.get_mut(K_PROJ).unwrap().set(63, 65519.0);
    let model = Folder::with(false, &tensors).load(DType::F16).unwrap();
    assert_holds(&model, &tensors, DTYPES[1]);
    tensors.get_mut(K_PROJ).unwrap().set(63, f32::MAX);
    let folder = Folder::with(false, &tensors);
    let detail = format!("{K_PROJ}[63] = {} as BF16", f32::MAX);
    folder.blames(folder.load(DType::BF16), "NonFinite", WEIGHTS, &detail);
}

#[test]
fn a_dtype_that_is_not_one_of_the_three_is_an_error() {
    for dtype in [DType::F64, DType::I32, DType::U8] {
        let folder = Folder::plain();
        folder.blames(folder.load(dtype), "DType", "", &format!("{dtype:?}"));
    }
}

#[cfg(feature = "ndarray")]
#[test]
#[allow(deprecated)] // Burn 0.22 is the last release with ndarray.
fn half_precision_on_ndarray_is_an_error_and_not_an_abort() {
    let (folder, device) = (Folder::plain(), Device::ndarray());
    for dtype in [DType::BF16, DType::F16] {
        let detail = format!("{dtype:?}");
        let found = qwen3_import::load(folder.dir(), &device, dtype);
        folder.blames(found, "DType", "", &detail);
        let found = qwen3_import::load_record(folder.path("none.bpk"), &device, dtype);
        folder.blames(found, "DType", "", &detail);
    }
    let bf16 = stored_as(Dtype::BF16);
    let folder = Folder::with(false, &bf16);
    let model = qwen3_import::load(folder.dir(), &device, DType::F32).unwrap();
    assert_holds(&model, &bf16, DTYPES[0]);
}

#[test]
fn a_single_layer_is_the_one_of_the_model() {
    let folder = Folder::plain();
    let model = folder.load(DType::F32).unwrap();
    let checkpoint = Checkpoint::open(folder.dir()).unwrap();
    let config = checkpoint.config().clone();
    let device = Device::flex();
    let mut source = CheckpointSource::new(&checkpoint, &device, DType::F32).unwrap();
    // Out of order, and more than once.
    for index in [1, 0, 1] {
        let layer = DecoderLayer::build(&mut source, &config, index).unwrap();
        let mut with_it = model.clone();
        with_it.model.layers[index] = layer;
        assert_same(&with_it, &model);
    }
    let other = DecoderLayer::build(&mut source, &config, 0).unwrap();
    let mut wrong = model.clone();
    wrong.model.layers[1] = other;
    assert_ne!(parameters(&wrong), parameters(&model));

    let beyond = DecoderLayer::build(&mut source, &config, 2);
    let key = "model.layers.2.input_layernorm.weight";
    folder.blames(beyond, "MissingKey", WEIGHTS, key);
    let misshapen = RmsNorm::build(&mut source, "model.norm", 9, 1e-6);
    folder.blames(misshapen, "Shape", WEIGHTS, &format!("{NORM} [8] for [9]"));
    let bad = CheckpointSource::new(&checkpoint, &device, DType::F64).map(|_| ());
    folder.blames(bad, "DType", "", "F64");
}

/// The blocks of a vocabulary too large for one are read in rows; indices in errors count from the start.
#[test]
fn rows_are_those_of_the_whole() {
    let mut tensors = stored_as(Dtype::BF16);
    let device = Device::flex();
    let folder = Folder::with(false, &tensors);
    let checkpoint = Checkpoint::open(folder.dir()).unwrap();
    let mut source = CheckpointSource::new(&checkpoint, &device, DType::F32).unwrap();
    let whole = tensors[EMBEDDING].values();
    for rows in [0..11, 0..1, 3..7, 10..11] {
        let part = source.rows(EMBEDDING, [11, 8], rows.clone()).unwrap();
        assert_eq!(part.dims(), [rows.len(), 8]);
        let found = part.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(found, whole[rows.start * 8..rows.end * 8]);
    }
    tensors.get_mut(EMBEDDING).unwrap().set(50, f32::NAN);
    let folder = Folder::with(false, &tensors);
    let checkpoint = Checkpoint::open(folder.dir()).unwrap();
    let mut source = CheckpointSource::new(&checkpoint, &device, DType::F32).unwrap();
    source.rows(EMBEDDING, [11, 8], 0..6).unwrap();
    let found = source.rows(EMBEDDING, [11, 8], 6..11);
    let detail = format!("{EMBEDDING}[50] = NaN as F32");
    folder.blames(found, "NonFinite", WEIGHTS, &detail);
}

#[test]
fn an_open_checkpoint_lists_its_tensors() {
    let tensors = stored_as(Dtype::BF16);
    let folder = Folder::with(false, &tensors);
    let listed = Checkpoint::open(folder.dir()).unwrap().tensors();
    assert!(listed.keys().eq(tensors.keys()));
    for (key, entry) in listed {
        assert_eq!((entry.encoding, &entry.shape), (Dtype::BF16.into(), &tensors[&key].shape));
        assert_eq!(entry.file, folder.path(WEIGHTS));
    }
}

#[test]
fn progress_ends_at_the_total() {
    let tensors = tensors(false);
    let folder = Folder::with(false, &tensors);
    let (mut keys, mut last) = (Vec::new(), (0, 0));
    let mut tell = |progress: Progress| {
        keys.push(progress.key.to_string());
        assert!(last.0 < progress.done && progress.done <= progress.total);
        last = (progress.done, progress.total);
    };
    Loader::new(&Device::flex(), DType::F32).progress(&mut tell).checkpoint(folder.dir()).unwrap();
    let values = tensors.values().map(|stored| stored.bytes.len() / 4).sum();
    assert_eq!(last, (values, values));
    keys.sort();
    assert!(keys.iter().eq(tensors.keys()));
}

/// What has been loaded runs, and nothing that was read is left out of it.
#[test]
fn every_weight_reaches_the_logits() {
    let logits = |model: &Qwen3| {
        let ids = Tensor::<2, Int>::from_ints([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], &Device::flex());
        model.forward(ids).into_data()
    };
    let before = Folder::plain().load(DType::F32).unwrap();
    assert_eq!(before.num_params(), before.config.num_parameters());
    let before = logits(&before);
    for key in tensors(false).into_keys() {
        let mut tensors = tensors(false);
        let stored = tensors.get_mut(&key).unwrap();
        let values = stored.values();
        (0..values.len()).for_each(|index| stored.set(index, 0.5 - values[index]));
        let after = Folder::with(false, &tensors).load(DType::F32).unwrap();
        assert_ne!(logits(&after), before, "{key}");
    }
}
