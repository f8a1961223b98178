//! An array of an npz: a magic, a length, a Python dictionary, values.

use crate::hostile;
use crate::mutate::bytes;
use crate::random::Random;

const SHAPES: [&str; 14] = [
    "()",
    "(0,)",
    "(1,)",
    "(-1,)",
    "(1, 0, 5)",
    "(4294967296, 4294967296)",
    "(9223372036854775807, 2)",
    "(18446744073709551615,)",
    "(18446744073709551616,)",
    "(1e9,)",
    "(,)",
    "(1, 2",
    "5",
    "(2147483648, 1, 1)",
];
const DTYPES: [&str; 12] =
    ["<f4", "<f8", ">f4", "<i8", "|u1", "|O", "<U8", "<f16", "", "f4", "<f9999999999", "[('a', '<f4')]"];

/// Changes one array's file.
pub fn mutate(random: &mut Random, npy: &mut Vec<u8>) -> String {
    let Some((header, data)) = split(npy) else {
        return bytes::mutate(random, npy);
    };
    let data = data.to_vec();
    match random.below(9) {
        0..2 => {
            let shape = *random.pick(&SHAPES);
            *npy = join(&replaced(&header, "'shape': ", shape), &data);
            format!("shape {shape}")
        }
        2 => {
            let shape = format!("({}, {})", hostile::number(random), hostile::number(random));
            *npy = join(&replaced(&header, "'shape': ", &shape), &data);
            "shape of hostile numbers".into()
        }
        3 => {
            let dtype = *random.pick(&DTYPES);
            *npy = join(&replaced(&header, "'descr': ", &format!("'{dtype}'")), &data);
            format!("dtype {dtype:?}")
        }
        4 => {
            let length = *random.pick(&[0_u16, 1, 17, 0x7fff, 0xffff]);
            npy[8..10].copy_from_slice(&length.to_le_bytes());
            format!("the header's length said to be {length}")
        }
        5 => {
            let value = *random.pick(&[f32::NAN, f32::INFINITY, f32::MAX, -1e30, 0.0]);
            let mut data = data;
            let at = random.below(data.len() / 4) * 4;
            if let Some(place) = data.get_mut(at..at + 4) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            *npy = join(&header, &data);
            format!("{value} at byte {at}")
        }
        6 => {
            let deep =
                format!("{{'shape': {}1, 'descr': '<f4', 'fortran_order': False}}", "(".repeat(60_000));
            *npy = join(&deep, &data);
            "a header of 60,000 brackets".into()
        }
        7 => {
            let mut header = header.into_bytes();
            let what = bytes::mutate(random, &mut header);
            *npy = join(&String::from_utf8_lossy(&header), &data);
            format!("header: {what}")
        }
        _ => bytes::mutate(random, npy),
    }
}

/// Shape and bytes of a good array of f32 in C order.
pub fn floats(npy: &[u8]) -> Option<(Vec<u64>, &[u8])> {
    let (header, data) = split(npy)?;
    if !header.contains("'<f4'") || header.contains("'fortran_order': True") {
        return None;
    }
    let (_, shape) = header.split_once("'shape': (")?;
    let (shape, _) = shape.split_once(')')?;
    let shape = shape.split(',').filter_map(|size| size.trim().parse().ok());
    Some((shape.collect(), data))
}

/// Header and data of a good file of version 1.
fn split(npy: &[u8]) -> Option<(String, &[u8])> {
    let length = usize::from(u16::from_le_bytes(npy.get(8..10)?.try_into().ok()?));
    let header = std::str::from_utf8(npy.get(10..10 + length)?).ok()?;
    Some((header.into(), &npy[10 + length..]))
}

/// A file of version 1, or of version 2 where the header is too long for that.
fn join(header: &str, data: &[u8]) -> Vec<u8> {
    let length = header.len() as u32;
    let start = match u16::try_from(length) {
        Ok(length) => [&b"\x93NUMPY\x01\x00"[..], &length.to_le_bytes()].concat(),
        Err(_) => [&b"\x93NUMPY\x02\x00"[..], &length.to_le_bytes()].concat(),
    };
    [&start, header.as_bytes(), data].concat()
}

/// The header with another value behind `key`.
fn replaced(header: &str, key: &str, value: &str) -> String {
    let Some((before, after)) = header.split_once(key) else { return header.into() };
    let end = if after.starts_with('(') { after.find(')').map(|at| at + 1) } else { after.find(',') };
    format!("{before}{key}{value}{}", &after[end.unwrap_or(after.len())..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_header_are_replaced() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
        assert!(replaced(header, "'shape': ", "()").ends_with("'shape': (), }"));
        assert!(replaced(header, "'descr': ", "'|O'").starts_with("{'descr': '|O', 'f"));
    }
}
