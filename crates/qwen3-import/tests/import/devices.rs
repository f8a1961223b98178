//! Checkpoints and records onto several devices.

use burn::tensor::{DType, Device, Int, Tensor, Tolerance};
use qwen3_import::{ImportError, Loader, Progress, load_record, save_record};
use qwen3_model::{DeviceMap, Extent, Qwen3};

use crate::common::*;
use crate::compare::*;

#[allow(deprecated, reason = "a second device")]
fn ndarray() -> Device {
    Device::ndarray()
}

/// The first layer on ndarray, the second on flex.
fn map() -> DeviceMap {
    DeviceMap::of_ranges([(0..=0, ndarray()), (1..=1, Device::flex())], 2).unwrap()
}

#[track_caller]
fn lies_on_two(model: &Qwen3) {
    let devices: Vec<_> = model.model.layers.iter().map(|layer| layer.device()).collect();
    assert_eq!(devices, [ndarray(), Device::flex()]);
    assert_eq!((model.device(), model.model.norm.weight.val().device()), (ndarray(), Device::flex()));
    assert_eq!(model.lm_head.as_ref().unwrap().weight[0].val().device(), Device::flex());
}

/// From a checkpoint and from a record; each value is read once, and a record of such a model is that of any.
#[test]
fn every_part_is_read_onto_its_device() {
    for tied in [false, true] {
        let folder = Folder::with(tied, &tensors(tied));
        let alone = folder.load(DType::F32).unwrap();
        let mut done = 0;
        let mut tell = |progress: Progress| {
            assert!(progress.done > done && progress.done <= progress.total);
            done = progress.done;
        };
        let split = Loader::on(&map(), DType::F32).progress(&mut tell).checkpoint(folder.dir()).unwrap();
        assert_eq!(done, alone.config.num_parameters());
        lies_on_two(&split);

        let [of_split, of_alone] = ["split.bpk", "alone.bpk"].map(|name| folder.path(name));
        save_record(&split, &of_split, DType::F32).unwrap();
        save_record(&alone, &of_alone, DType::F32).unwrap();
        let again = Loader::on(&map(), DType::F32).record(&of_alone).unwrap();
        lies_on_two(&again);
        assert_same(&again, &split);
        assert_same(&load_record(&of_split, &Device::flex(), DType::F32).unwrap(), &alone);
    }
}

/// ndarray computes in f32 alone.
#[test]
fn every_device_has_to_compute_in_the_dtype() {
    let folder = Folder::plain();
    let error = Loader::on(&map(), DType::BF16).checkpoint(folder.dir()).unwrap_err();
    assert!(matches!(error, ImportError::DType { dtype: DType::BF16, .. }), "{error}");
}

/// Its layers and last norm lie where the map says, and there is no head but a tied one.
#[test]
fn an_encoder_lies_on_several_devices_too() {
    let ids = || Tensor::<2, Int>::from_ints([[1, 5, 3]], &ndarray());
    for tied in [false, true] {
        let folder = Folder::with(tied, &tensors(tied));
        let map = map();
        let loader = || Loader::on(&map, DType::F32).extent(Extent::Encoder);
        let split = loader().checkpoint(folder.dir()).unwrap();
        assert_eq!(split.head().is_some(), tied);
        let record = folder.path("split.bpk");
        save_record(&split, &record, DType::F32).unwrap();
        assert_same(&loader().record(&record).unwrap(), &split);
        let alone = folder.load(DType::F32).unwrap().encode(ids().to_device(&Device::flex()));
        let hidden = split.encode(ids());
        assert_eq!(hidden.device(), Device::flex());
        hidden.into_data().assert_approx_eq::<f32>(&alone.into_data(), Tolerance::absolute(1e-5));
    }
}
