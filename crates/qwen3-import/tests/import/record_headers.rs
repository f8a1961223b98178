//! Record headers made by hand, byte by byte, because the writer makes none that lie.

use std::fs;

use serde_json::{Value, json};

use crate::common::*;
use crate::compare::record_key;
use crate::hostile_records::{CONFIG, RECORD, good, load};

/// CBOR of what record metadata is made of.
fn cbor(value: &Value) -> Vec<u8> {
    let head = |major: u8, number: u64| {
        let mut bytes = vec![major << 5 | 27];
        bytes.extend(number.to_be_bytes());
        bytes
    };
    match value {
        Value::Number(number) => head(0, number.as_u64().unwrap()),
        Value::String(text) => [head(3, text.len() as u64), text.as_bytes().to_vec()].concat(),
        Value::Array(list) => {
            let items = list.iter().flat_map(cbor);
            head(4, list.len() as u64).into_iter().chain(items).collect()
        }
        Value::Object(map) => {
            let items = map.iter().flat_map(|(key, value)| [cbor(&json!(key)), cbor(value)].concat());
            head(5, map.len() as u64).into_iter().chain(items).collect()
        }
        other => panic!("{other}"),
    }
}

/// A record with any metadata, claimed to be `claimed` bytes long.
fn raw_record(folder: Folder, claimed: u32, metadata: &[u8], data: &[u8]) -> Folder {
    let magic_and_version = fs::read(folder.path(RECORD)).unwrap()[..6].to_vec();
    let mut bytes = [&magic_and_version, &claimed.to_le_bytes()[..], metadata].concat();
    bytes.resize(bytes.len().next_multiple_of(256), 0);
    bytes.extend(data);
    folder.write(RECORD, bytes)
}

/// A record whose tensors' byte ranges are what `range` makes of their lengths, and its data.
fn placed(mut range: impl FnMut(u64) -> [u64; 2], data: &[u8]) -> Folder {
    let mut entries = json!({});
    for (key, stored) in tensors(false) {
        let range = range(stored.bytes.len() as u64);
        entries[record_key(&key)] = json!({"dtype": "F32", "shape": stored.shape, "data_offsets": range});
    }
    let metadata = json!({"tensors": entries, "metadata": {CONFIG: config(false).to_string()}});
    let metadata = cbor(&metadata);
    raw_record(good(), metadata.len() as u32, &metadata, data)
}

#[test]
fn byte_ranges_that_lie() {
    // In sequence, and at odd places: a record like any other.
    for gap in [0, 1, 256] {
        let mut end = 0;
        let folder = placed(
            |length| {
                let start = end + gap;
                end = start + length;
                [start, end]
            },
            &[0; 1 << 16],
        );
        load(&folder).unwrap();
    }
    // All in the same place: every tensor fits the file, all together do not.
    let folder = placed(|length| [0, length], &[0; 16 * 8 * 4]);
    folder.blames(load(&folder), "Malformed", RECORD, "they overlap");
    for (start, detail) in [(1 << 16, "truncated"), (1 << 60, "truncated"), (u64::MAX - 512, "overflow")] {
        let folder = placed(|length| [start, start + length], &[0; 1 << 16]);
        folder.blames(load(&folder), "Malformed", RECORD, detail);
    }
    for range in [[0, 0], [8, 0], [0, 1 << 40], [0, u64::MAX]] {
        let folder = placed(|_| range, &[0; 1 << 16]);
        folder.blames(load(&folder), "Malformed", RECORD, "");
    }
}

/// Lengths that would be gigabytes if they were believed.
#[test]
fn metadata_that_lies() {
    let huge = |major: u8| [&[major << 5 | 27][..], &(1_u64 << 60).to_be_bytes()].concat();
    let inside = |inner: Vec<u8>| {
        let start = [&[0xa1][..], &cbor(&json!("tensors")), &[0xa1], &cbor(&json!("a"))].concat();
        let shape = [&[0xa2][..], &cbor(&json!("dtype")), &cbor(&json!("F32")), &cbor(&json!("shape"))];
        [start, shape.concat(), inner].concat()
    };
    let far = 1_u64 << 40;
    let texts = [
        huge(2),
        huge(3),
        huge(4),
        huge(5),
        inside(huge(4)),
        inside(huge(2)),
        vec![0x81; 1 << 16],
        vec![0xa1; 1 << 16],
        vec![0xd8; 1 << 16],
        cbor(&json!([])),
        cbor(&json!({})),
        cbor(&json!({"tensors": {"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}})),
        cbor(&json!({"tensors": {"a": {"dtype": "F32", "shape": [far, far], "data_offsets": [0, 4]}}})),
    ];
    let mut folder = good();
    for metadata in texts {
        folder = raw_record(folder, metadata.len() as u32, &metadata, &[0; 64]);
        folder.blames(load(&folder), "Malformed", RECORD, "");
    }
    for claimed in [u32::MAX, 100 << 20, (100 << 20) + 1, 4096] {
        folder = raw_record(folder, claimed, &cbor(&json!({})), &[0; 64]);
        folder.blames(load(&folder), "Malformed", RECORD, "");
    }
}
