use std::io::Write;

use zip::CompressionMethod::{Deflated, Stored};
use zip::write::{FileOptions, ZipWriter};

use qwen3_checkpoint::CheckpointError::Malformed;

use crate::TraceError as E;
use crate::tensor_file::tests::{le, open};
use crate::{Array, Values};

/// An npy file with the given header text.
pub(in crate::tensor_file) fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

pub(in crate::tensor_file) fn plain(descr: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
}

fn npz(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut cursor = std::io::Cursor::new(Vec::new());
    let mut archive = ZipWriter::new(&mut cursor);
    for (number, (name, bytes)) in entries.iter().enumerate() {
        let method = if number % 2 == 0 { Stored } else { Deflated };
        archive.start_file(*name, FileOptions::default().compression_method(method)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    drop(archive);
    cursor.into_inner()
}

/// Reads the only array of an npz.
fn read_npy(npy: Vec<u8>) -> Result<Array, E> {
    open("a.npz", &npz(&[("x.npy", npy)]))?.read("x")
}

#[test]
fn npz_of_every_dtype() {
    let fortran = "{'descr': '<f2', 'fortran_order': True, 'shape': (2, 3), }\n";
    let halves = le(&[0x3c00_u16, 0x4400, 0x4000, 0x4500, 0x4200, 0x4600].map(u16::to_le_bytes));
    let one_axis_in_fortran_order = "{'descr': '<i8', 'fortran_order': True, 'shape': (1, 2, 1), }\n";
    let bytes = npz(&[
        ("f2.npy", npy(&plain("<f2", "(2,)"), &[0x00, 0x3c, 0x00, 0xc0])),
        ("f4.npy", npy(&plain("<f4", "(2, 1)"), &le(&[1.5_f32, -0.1].map(f32::to_le_bytes)))),
        ("layer.f8", npy(&plain("<f8", "()"), &0.1_f64.to_le_bytes())),
        ("fortran.npy", npy(fortran, &halves)),
        ("b1.npy", npy(&plain("|b1", "(2,)"), &[1, 0])),
        ("i2.npy", npy(&plain("<i2", "(1,)"), &[0xff, 0xff])),
        ("i4.npy", npy(&plain("<i4", "(1,)"), &(-7_i32).to_le_bytes())),
        ("i8.npy", npy(one_axis_in_fortran_order, &le(&[1_i64, -1].map(i64::to_le_bytes)))),
    ]);
    let file = open("a.npz", &bytes).unwrap();
    assert!(file.has("f2") && file.has("f2.npy") && file.has("layer.f8") && !file.has("f3"));
    let read = |name: &str| file.read(name).unwrap();
    assert_eq!(read("f2").values, Values::Float(vec![1.0, -2.0]));
    assert_eq!(read("f4"), Array { shape: vec![2, 1], values: Values::Float(vec![1.5, -0.1]) });
    assert_eq!(read("f4.npy"), read("f4"));
    assert_eq!(read("layer.f8"), Array { shape: vec![], values: Values::Float(vec![0.1]) });
    let rows = Values::Float(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(read("fortran"), Array { shape: vec![2, 3], values: rows });
    assert_eq!(read("b1").values, Values::Int(vec![1, 0]));
    assert_eq!(read("i2").values, Values::Int(vec![-1]));
    assert_eq!(read("i4").values, Values::Int(vec![-7]));
    assert_eq!(read("i8"), Array { shape: vec![1, 2, 1], values: Values::Int(vec![1, -1]) });
    assert!(matches!(file.read("f3"), Err(E::NoTensor { .. })));
}

#[test]
fn arrays_that_cannot_be_used() {
    let nested = format!("{{'descr': {}'<f4'", "[".repeat(3000));
    let big = "4611686018427387904";
    for (header, data, reason) in [
        (plain("<f4", "(1000000000000,)"), 4, "4 bytes of data do not fit shape [1000000000000]"),
        (plain("<f4", "(2,)"), 9, "do not fit"),
        (plain("<f4", &format!("({big}, 8, 0)")), 4, "do not fit"),
        (plain("<f4", &format!("(0, {big}, 8)")), 4, "do not fit"),
        (plain("<f4", &format!("({big}, 2)")), 0, "do not fit"),
        (plain("<f4", "(99999999999999999999,)"), 4, "plain array"),
        (plain("<f4", "(-1,)"), 4, "plain array"),
        (nested, 4, "plain array"),
        ("{'descr': '<f4'}\n".to_string(), 4, "plain array"),
        (
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }".to_string(),
            4,
            "has dtype [['a'",
        ),
        ("{'shape': (1,), 'fortran_order': False}\n".to_string(), 4, "descr"),
        (plain("<f4", "(1,)") + &" ".repeat(4096), 4, "at most"),
        (plain("<f4", "(0, 3)"), 0, "of shape [0, 3] has no elements"),
        (plain(">f4", "(1,)"), 4, "has dtype '>f4', expected <f2"),
        (plain("<V2", "(2,)"), 4, "has dtype '<V2'"),
        (plain("<U1", "(1,)"), 4, "has dtype '<U1'"),
    ] {
        let message = read_npy(npy(&header, &vec![0; data])).unwrap_err().to_string();
        assert!(message.contains(reason) && message.contains("a.npz: tensor `x`"), "{message}");
    }
    let mut nan = npy(&plain("<f4", "(3,)"), &[0; 12]);
    let last = nan.len() - 2;
    nan[last..].copy_from_slice(&[0xc0, 0x7f]);
    assert!(matches!(read_npy(nan), Err(E::NotFinite { index: 2, .. })));

    let good = npy(&plain("<f4", "(2,)"), &[0; 8]);
    for length in 0..good.len() {
        assert!(matches!(read_npy(good[..length].to_vec()), Err(E::Tensor { .. })), "{length}");
    }
    let version_2 = [b"\x93NUMPY\x02\x00\xff\xff\xff\xff", &[b' '; 64][..]].concat();
    assert!(read_npy(version_2).unwrap_err().to_string().contains("4294967295"));
}

#[test]
fn archives_that_cannot_be_used() {
    let array = npy(&plain("<f4", "(2,)"), &le(&[1.0_f32, 2.0].map(f32::to_le_bytes)));
    let good = npz(&[("x.npy", array.clone())]);
    for length in 0..good.len() {
        assert!(matches!(open("a.npz", &good[..length]), Err(E::File(Malformed { .. }))), "{length}");
    }
    let twice = npz(&[("x.npy", array.clone()), ("x", array.clone())]);
    assert!(open("a.npz", &twice).unwrap_err().to_string().contains("twice"));
    let mut same = npz(&[("x.npy", array.clone()), ("y.npy", array)]);
    while let Some(at) = same.windows(5).position(|bytes| bytes == b"y.npy") {
        same[at] = b'x';
    }
    assert!(open("a.npz", &same).unwrap_err().to_string().contains("twice"));

    let data = good.windows(4).rposition(|bytes| bytes == 2.0_f32.to_le_bytes()).unwrap();
    let mut changed = good.clone();
    changed[data + 2] ^= 1;
    let found = open("a.npz", &changed).unwrap().read("x");
    assert!(matches!(found, Err(E::Tensor { .. })), "{found:?}");

    // The sizes in the directory: 20 and 24 bytes behind its signature.
    let directory = good.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    for (sizes, size) in
        [(&[24][..], 0x7fff_fff0_u32), (&[20, 24], 0x7fff_fff0), (&[24], 0xffff_fff0), (&[24], 3)]
    {
        let mut lying = good.clone();
        for offset in sizes {
            lying[directory + offset..][..4].copy_from_slice(&size.to_le_bytes());
        }
        let found = open("a.npz", &lying).and_then(|file| file.read("x"));
        assert!(matches!(found, Err(E::Tensor { .. })), "{found:?}");
    }
}

/// A member whose header and directory agree on ten gigabytes, or on one, in a kilobyte of packed bytes; one that
/// unpacks to more than it says, and one to less.
#[test]
fn sizes_are_checked_before_anything_is_unpacked() {
    let header = |bytes: u64| npy(&plain("<f4", &format!("({},)", bytes / 4)), &[]);
    let claiming = |header: Vec<u8>, data: usize, claim: Option<u64>| {
        let real = [&header[..], &vec![0; data]].concat();
        // The second entry is the one that is packed.
        let mut file = npz(&[("a.npy", header.clone()), ("x.npy", real)]);
        if let Some(claim) = claim {
            let size = (header.len() as u64 + claim) as u32;
            let mut places = file.windows(4).enumerate().filter(|(_, bytes)| bytes == b"PK\x01\x02");
            let directory = places.next_back().unwrap().0;
            file[directory + 24..][..4].copy_from_slice(&size.to_le_bytes());
        }
        open("a.npz", &file).unwrap().read("x").unwrap_err().to_string()
    };
    for (bytes, data, claim, reason) in [
        (10 << 30, 1 << 20, None, "1048576 bytes of data do not fit shape [2684354560]"),
        (1 << 30, 1 << 20, Some(1 << 30), "packed ones"),
        (4, 1 << 20, Some(4), "4 bytes of data are claimed, there are more"),
        (1 << 20, 8, Some(1 << 20), "packed ones"),
        (1 << 13, 1 << 12, Some(1 << 13), "8192 bytes of data are claimed, there are 4096 bytes"),
    ] {
        let message = claiming(header(bytes), data, claim);
        assert!(message.contains(reason) && message.contains("a.npz: tensor `x`"), "{message}");
    }
}

/// A shape is known without its values, which need not be readable.
#[test]
fn a_shape_is_read_without_values() {
    let shape = plain("<f4", "(2, 3)");
    let file = npz(&[("x.npy", npy(&shape, &[0; 24])), ("y.npy", npy(&shape, &[0; 20]))]);
    let file = open("a.npz", &file).unwrap();
    assert_eq!(file.shape("x").unwrap(), [2, 3]);
    assert!(file.shape("y").unwrap_err().to_string().contains("do not fit shape [2, 3]"));
    assert!(matches!(file.shape("z"), Err(E::NoTensor { .. })));
}
