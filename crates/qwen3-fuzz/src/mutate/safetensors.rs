//! Safetensors: a length, a header in JSON, the tensors' bytes.

use crate::hostile;
use crate::json::Json;
use crate::mutate::{bytes, json};
use crate::random::Random;

/// A changed file.
pub fn mutate(random: &mut Random, file: &[u8]) -> (Vec<u8>, String) {
    let Some((header, data)) = split(file) else {
        return (file.to_vec(), "no safetensors".into());
    };
    let mut data = data.to_vec();
    match random.below(10) {
        0..4 => {
            let (header, what) = json::mutate(random, header);
            (join(&header, &data), format!("header: {what}"))
        }
        4..6 => {
            let mut header = header;
            let what = tensor(random, &mut header, data.len());
            (join(&header.bytes(), &data), what)
        }
        6 => {
            let mut whole = file.to_vec();
            let lie = lie(random, header.bytes().len() as u64);
            whole[..8].copy_from_slice(&lie.to_le_bytes());
            (whole, format!("the header's length said to be {lie}"))
        }
        7 => {
            // An infinity or NaN in every dtype, at an even place.
            let at = random.below(data.len() / 2) * 2;
            let value = *random.pick(&[0x7f80_u16, 0x7fc0, 0xff80, 0x7c00, 0xffff]);
            data[at..at + 2].copy_from_slice(&value.to_le_bytes());
            (join(&header.bytes(), &data), format!("data: {value:#x} at {at}"))
        }
        8 => {
            let what = bytes::mutate(random, &mut data);
            (join(&header.bytes(), &data), format!("data: {what}"))
        }
        _ => {
            let mut whole = file.to_vec();
            let what = bytes::mutate(random, &mut whole);
            (whole, what)
        }
    }
}

/// Header and data of a good file.
pub fn split(file: &[u8]) -> Option<(Json, &[u8])> {
    let length = u64::from_le_bytes(file.get(..8)?.try_into().ok()?) as usize;
    let header = Json::parse(file.get(8..8 + length)?)?;
    Some((header, &file[8 + length..]))
}

/// A file of a header and data.
pub fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

fn lie(random: &mut Random, truth: u64) -> u64 {
    let near = [truth + 1, truth - 1, truth / 2, truth * 2, 0, 1];
    let far = [1 << 31, 1 << 32, 100_000_001, (1 << 53) + 1, 1 << 63, u64::MAX, u64::MAX - 7];
    if random.once_in(2) { *random.pick(&near) } else { *random.pick(&far) }
}

/// Changes dtype, shape or place of one tensor in the header.
fn tensor(random: &mut Random, header: &mut Json, data: usize) -> String {
    let index = random.below(header.len());
    let Json::Object(entries) = header else { return "no header".into() };
    let (name, tensor) = &mut entries[index];
    let name = String::from_utf8_lossy(name).into_owned();
    match random.below(4) {
        0 => {
            let dtypes =
                ["F64", "F32", "F16", "BF16", "I8", "I64", "BOOL", "F8_E4M3", "F4", "C64", "f32", ""];
            let dtype = *random.pick(&dtypes);
            tensor.set("dtype", Json::Raw(crate::json::quoted(dtype)));
            format!("{name} is {dtype:?}")
        }
        1 => {
            let shapes = ["[]", "[0]", "[-1]", "[4294967296,4294967296]", "[9223372036854775807,2]", "[1.5]"];
            let shape = *random.pick(&shapes);
            tensor.set("shape", Json::raw(shape));
            format!("{name} is {shape}")
        }
        2 => {
            // Over another tensor, outside, backwards.
            let (a, b) = (random.below(data + 2), random.below(data * 2));
            let offsets = format!("[{a},{b}]");
            tensor.set("data_offsets", Json::raw(offsets.clone()));
            format!("{name} at {offsets}")
        }
        _ => {
            let offsets = format!("[{},{}]", hostile::number(random), hostile::number(random));
            tensor.set("data_offsets", Json::raw(offsets.clone()));
            format!("{name} at {}", json::short(&offsets))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_taken_apart_and_put_together() {
        let file = join(br#"{"a":{"data_offsets":[0,4],"dtype":"F32","shape":[1]}}"#, &[0; 4]);
        let (header, data) = split(&file).unwrap();
        assert_eq!(join(&header.bytes(), data), file);
        let changed = (0..300).filter(|index| mutate(&mut Random::new(0, "s", *index), &file).0 != file);
        assert!(changed.count() > 250);
    }
}
