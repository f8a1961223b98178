//! Damage to a record: noticed, and named, or harmless.

use std::collections::BTreeMap;
use std::fs;

use burn::tensor::DType;
use burn_store::burn_pack;
use qwen3_import::{RecordFile, save_record_with_texts};

use crate::common::*;
use crate::compare::*;
use crate::hostile_records::{RECORD, good, load, rewrite};

/// Numbers that are the same in every run (SplitMix64).
fn numbers(mut state: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((z ^ z >> 31) as usize)
    })
}

/// One bit of a file changed.
fn flipped(whole: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Every bit of a tensor that is changed is noticed, in each dtype, and the tensor named.
#[test]
fn a_changed_bit_of_a_tensor_is_noticed() {
    let folder = Folder::plain();
    for dtype in [DType::F32, DType::BF16] {
        let model = folder.load(dtype).unwrap();
        qwen3_import::save_record(&model, folder.path(RECORD), dtype).unwrap();
        let whole = fs::read(folder.path(RECORD)).unwrap();
        let reader = burn_pack::Reader::from_file_exact(folder.path(RECORD)).unwrap();
        let mut random = numbers(7);
        let mut flips = 0;
        for tensor in reader.into_tensors().unwrap() {
            let data = tensor.to_bytes().unwrap();
            // Where its data are: equal data elsewhere would be those of an equal tensor.
            let start = whole.windows(data.len()).position(|bytes| bytes == &data[..]).unwrap();
            let chosen = [0, 8 * data.len() - 1]
                .into_iter()
                .chain(random.by_ref().take(6).map(|n| n % (8 * data.len())));
            for bit in chosen {
                fs::write(folder.path(RECORD), flipped(&whole, 8 * start + bit)).unwrap();
                folder.blames(load(&folder), "Malformed", RECORD, "is damaged: its checksum is");
                flips += 1;
            }
        }
        assert!(flips >= 70, "{flips}");
    }
}

/// Anywhere else, a changed bit is an error about this file, or changes nothing that is read.
#[test]
fn a_changed_bit_anywhere_changes_no_model() {
    let mut folder = good();
    let model = load(&folder).unwrap();
    let texts = BTreeMap::from([("tokenizer.json".to_string(), "{\"a\": 1}".to_string())]);
    save_record_with_texts(&model, folder.path(RECORD), DType::F32, &texts).unwrap();
    let whole = fs::read(folder.path(RECORD)).unwrap();
    let header = 10 + u32::from_le_bytes(whole[6..10].try_into().unwrap()) as usize;
    let mut errors = 0;
    for bit in (0..80).chain(numbers(11).take(600).map(|n| n % (8 * header))) {
        folder = folder.write(RECORD, flipped(&whole, bit));
        let opened = RecordFile::open(folder.path(RECORD));
        match (load(&folder), opened) {
            (Ok(again), Ok(record)) => {
                assert_same(&again, &model);
                assert_eq!(again.config, model.config, "bit {bit}");
                assert_eq!(record.text("tokenizer.json"), Some("{\"a\": 1}"), "bit {bit}");
            }
            (Err(error), _) => {
                assert!(error.to_string().contains(RECORD), "{error}");
                errors += 1;
            }
            (Ok(_), Err(error)) => panic!("bit {bit}: {error}"),
        }
    }
    assert!(errors > 400, "{errors}");
}

/// Records of other programs, and of before there were checksums.
#[test]
fn a_record_without_checksums_loads() {
    let folder = good();
    let model = load(&folder).unwrap();
    assert!(RecordFile::open(folder.path(RECORD)).unwrap().has_checksums());
    rewrite(&folder.path(RECORD), |_, _| ());
    assert!(!RecordFile::open(folder.path(RECORD)).unwrap().has_checksums());
    assert_same(&load(&folder).unwrap(), &model);
}
