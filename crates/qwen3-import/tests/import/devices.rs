//! Checkpoints and records onto several devices.

use burn::tensor::{DType, Device};
use qwen3_import::{ImportError, load_on, load_record_on, save_record};
use qwen3_model::{DeviceMap, Qwen3};

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
        let split = load_on(folder.dir(), &map(), DType::F32, &mut |progress| {
            assert!(progress.done > done && progress.done <= progress.total);
            done = progress.done;
        });
        let split = split.unwrap();
        assert_eq!(done, alone.config.num_parameters());
        lies_on_two(&split);

        let [of_split, of_alone] = ["split.bpk", "alone.bpk"].map(|name| folder.path(name));
        save_record(&split, &of_split, DType::F32).unwrap();
        save_record(&alone, &of_alone, DType::F32).unwrap();
        let read = |file| load_record_on(file, &map(), DType::F32, &mut |_| {}).unwrap();
        let again = read(&of_alone);
        lies_on_two(&again);
        assert_same(&again, &split);
        let whole = DeviceMap::whole(Device::flex(), 2);
        assert_same(&load_record_on(&of_split, &whole, DType::F32, &mut |_| {}).unwrap(), &alone);
    }
}

/// ndarray computes in f32 alone.
#[test]
fn every_device_has_to_compute_in_the_dtype() {
    let folder = Folder::plain();
    let error = load_on(folder.dir(), &map(), DType::BF16, &mut |_| {}).unwrap_err();
    assert!(matches!(error, ImportError::DType { dtype: DType::BF16, .. }), "{error}");
}
