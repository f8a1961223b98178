use std::io::Write;

use zip::write::{FileOptions, ZipWriter};

use crate::tensor_file::pickle::tests::{
    PROTOCOL_2, PROTOCOL_5, arguments, call, dict, name, pickle, rebuild, text,
};
use crate::tensor_file::tests::{le, written};
use crate::{Array, Precision, TensorFile, TraceError as E, Values};

/// An archive as `torch.save` writes it, of a pickle and storages.
fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let entries = [("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")].into_iter();
    let storages = storages.iter().map(|(key, bytes)| (format!("mine/data/{key}"), *bytes));
    zipped(entries.map(|(name, bytes)| (format!("mine/{name}"), bytes)).chain(storages))
}

fn zipped<'a>(entries: impl IntoIterator<Item = (String, &'a [u8])>) -> Vec<u8> {
    let mut cursor = std::io::Cursor::new(Vec::new());
    let mut archive = ZipWriter::new(&mut cursor);
    for (name, bytes) in entries {
        let stored = FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    drop(archive);
    cursor.into_inner()
}

/// What `read` makes of a file of these bytes.
fn opened<T>(bytes: &[u8], read: impl FnOnce(TensorFile) -> T) -> Result<T, E> {
    let (_folder, path) = written("x.pt", bytes);
    TensorFile::open(&path).map(read)
}

/// The only tensor of a file: a view of storage 0, which has these bytes.
fn view(
    kind: &str,
    numel: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
    bytes: &[u8],
) -> Result<Array, E> {
    let tensor = call(rebuild(), &arguments(("torch", kind), "0", numel, offset, shape, strides));
    opened(&archive(&pickle(&tensor), &[("0", bytes)]), |file| {
        assert_eq!(file.names(), ["x"]);
        let (shape, array) = (file.shape("x"), file.read("x"));
        if let Ok(array) = &array {
            assert_eq!(shape.unwrap(), array.shape);
        }
        array
    })?
}

/// The floats 0 to 11.
fn twelve() -> Vec<u8> {
    (0..12).flat_map(|value| (value as f32).to_le_bytes()).collect()
}

#[test]
fn every_dtype_is_read() {
    let floats = |kind: &str, bytes: &[u8]| view(kind, 2, 0, &[2], &[1], bytes).unwrap().values;
    assert_eq!(floats("HalfStorage", &[0x00, 0x3c, 0x01, 0x00]), Values::Float(vec![1.0, 2_f32.powi(-24)]));
    assert_eq!(floats("BFloat16Storage", &[0x80, 0x3f, 0x20, 0xc0]), Values::Float(vec![1.0, -2.5]));
    assert_eq!(
        floats("FloatStorage", &le(&[1.5_f32, -0.1].map(f32::to_le_bytes))),
        Values::Float(vec![1.5, -0.1])
    );
    assert_eq!(
        floats("DoubleStorage", &le(&[0.1_f64, -2.0].map(f64::to_le_bytes))),
        Values::Float(vec![0.1, -2.0])
    );
    assert_eq!(
        floats("LongStorage", &le(&[i64::MAX, -1].map(i64::to_le_bytes))),
        Values::Int(vec![i64::MAX, -1])
    );
    assert_eq!(floats("IntStorage", &le(&[7_i32, -7].map(i32::to_le_bytes))), Values::Int(vec![7, -7]));
    assert_eq!(floats("ShortStorage", &[0xff, 0xff, 1, 0]), Values::Int(vec![-1, 1]));
    assert_eq!(floats("CharStorage", &[0xff, 1]), Values::Int(vec![-1, 1]));
    assert_eq!(floats("ByteStorage", &[0xff, 1]), Values::Int(vec![255, 1]));
    assert_eq!(floats("BoolStorage", &[0, 1]), Values::Int(vec![0, 1]));
    let complex = view("ComplexFloatStorage", 1, 0, &[1], &[1], &[0; 8]).unwrap_err().to_string();
    assert!(
        complex.contains("x.pt: tensor `x` has dtype complex64, expected float16, bfloat16"),
        "{complex}"
    );
}

#[test]
fn strides_and_offsets_are_followed() {
    let read = |offset, shape: &[i64], strides: &[i64]| {
        let array = view("FloatStorage", 12, offset, shape, strides, &twelve()).unwrap();
        (array.shape, array.values)
    };
    let floats = |values: &[u8]| Values::Float(values.iter().map(|value| (*value).into()).collect());
    assert_eq!(read(0, &[3, 4], &[4, 1]), (vec![3, 4], floats(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])));
    assert_eq!(read(0, &[4, 3], &[1, 4]), (vec![4, 3], floats(&[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])));
    assert_eq!(read(5, &[2, 2], &[4, 1]), (vec![2, 2], floats(&[5, 6, 9, 10])));
    assert_eq!(read(4, &[3, 2], &[0, 1]), (vec![3, 2], floats(&[4, 5, 4, 5, 4, 5])));
    assert_eq!(read(11, &[], &[]), (vec![], floats(&[11])));
}

#[test]
fn files_of_pytorch_are_read() {
    // 0 to 5.
    let storage = [0x0000_u16, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0].map(u16::to_le_bytes).concat();
    for pickle in [PROTOCOL_2, PROTOCOL_5] {
        let (turned, row, bits) = opened(&archive(pickle, &[("0", &storage)]), |file| {
            (file.read("a.t").unwrap(), file.read("l.0").unwrap(), file.read_bits("l.0").unwrap())
        })
        .unwrap();
        assert_eq!(
            turned,
            Array { shape: vec![3, 2], values: Values::Float(vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]) }
        );
        assert_eq!(row, Array { shape: vec![1, 3], values: Values::Float(vec![3.0, 4.0, 5.0]) });
        assert_eq!(bits, (Precision::BF16, vec![0x4040, 0x4080, 0x40a0]));
    }
}

#[test]
fn claims_are_compared_with_the_bytes_that_are_there() {
    let huge = 1 << 40;
    for (numel, offset, shape, strides, reason) in [
        (13, 0, &[13][..], &[1][..], "a storage of 52 bytes is claimed, there are 48"),
        (11, 0, &[11], &[1], "a storage of 44 bytes is claimed, there are 48"),
        (12, 0, &[13], &[1], "takes 13 elements of its storage, which has 12"),
        (12, 1, &[3, 4], &[4, 1], "takes 13 elements"),
        (12, 0, &[3, 4], &[5, 1], "takes 14 elements"),
        (huge, 0, &[huge], &[1], "at most 4294967296 are read"),
        (12, 0, &[huge], &[0], "at most 4294967296 are read"),
        (12, 0, &[1 << 27], &[0], "48 bytes expanded to 536870912, at most 67108864"),
        (12, 0, &[huge, huge], &[0, 0], "is no layout"),
        (12, 0, &[2], &[i64::MAX], "takes 9223372036854775808 elements"),
        (12, 0, &[4], &[i64::MAX], "is no layout"),
        (i64::MAX, 0, &[1], &[1], "a storage of 9223372036854775807 elements"),
        (12, 0, &[12], &[1, 1], "is no layout"),
    ] {
        let error = view("FloatStorage", numel, offset, shape, strides, &twelve()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("x.pt: tensor `x`"), "{reason}: {error}");
    }
    assert!(matches!(view("FloatStorage", 0, 0, &[0, 3], &[3, 1], &[]), Err(E::Empty { .. })));
    let nan = view("FloatStorage", 1, 0, &[1], &[1], &f32::NAN.to_le_bytes());
    assert!(matches!(nan, Err(E::NotFinite { index: 0, .. })));
    let tensor = call(rebuild(), &arguments(("torch", "FloatStorage"), "../7", 1, 0, &[1], &[1]));
    let error =
        opened(&archive(&pickle(&tensor), &[]), |file| file.read("x")).unwrap().unwrap_err().to_string();
    assert!(error.contains("its storage `mine/data/../7` is not in the archive"), "{error}");
}

#[test]
fn what_is_no_file_of_tensors_is_refused() {
    let tensor = || call(rebuild(), &arguments(("torch", "FloatStorage"), "0", 12, 0, &[12], &[1]));
    let message = |bytes: &[u8]| {
        let error = opened(bytes, drop).unwrap_err();
        assert!(matches!(error, E::File(_)), "{error}");
        error.to_string()
    };
    let evil = call(name("os", "system"), &[text("touch /tmp/owned")]);
    let evil = archive(&pickle(&dict(&[(text("a"), tensor()), (text("b"), evil)])), &[("0", &twelve())]);
    assert!(message(&evil).contains("x.pt: data.pkl, before byte"), "{}", message(&evil));
    assert!(message(&evil).contains("asks for `os.system`"), "{}", message(&evil));
    let old = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    assert!(message(old).contains("PyTorch before 1.6"), "{}", message(old));
    assert!(message(b"hello").contains("not a file of torch.save"));
    assert!(message(&zipped([("x.npy".into(), &b""[..])])).contains("no data.pkl"));
    assert!(message(&archive(&pickle(&dict(&[])), &[])).contains("no tensor is in it"));
    let big = [("x/data.pkl", &pickle(&tensor())[..]), ("x/byteorder", b"big")];
    assert!(message(&zipped(big.map(|(name, bytes)| (name.into(), bytes)))).contains("big-endian"));

    let good = archive(&pickle(&tensor()), &[("0", &twelve())]);
    for length in 0..good.len() {
        let found = opened(&good[..length], |file| file.read("x"));
        assert!(!matches!(found, Ok(Ok(_))), "{length}");
    }
    let data = good.windows(4).position(|bytes| bytes == 11_f32.to_le_bytes()).unwrap();
    let mut changed = good.clone();
    changed[data] ^= 1;
    assert!(matches!(opened(&changed, |file| file.read("x")).unwrap(), Err(E::Tensor { .. })));
    let mut twice = archive(&pickle(&tensor()), &[("0", &twelve()), ("1", &twelve())]);
    while let Some(at) = twice.windows(6).position(|bytes| bytes == b"data/1") {
        twice[at + 5] = b'0';
    }
    assert!(message(&twice).contains("a name twice"), "{}", message(&twice));
    let large = vec![b'N'; 17 << 20];
    let error = opened(&archive(&large, &[]), drop).unwrap_err().to_string();
    assert!(error.contains("17825792 bytes, at most 16777216"), "{error}");
}
