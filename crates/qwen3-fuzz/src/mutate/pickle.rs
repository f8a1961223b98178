//! Tensors as `torch.save` writes them: a zip archive of a pickle and of storages.

use crate::mutate::json::short;
use crate::mutate::{bytes, zip};
use crate::{hostile, random::Random};

/// What a pickle may ask for instead of a tensor.
const NAMES: [&str; 10] = [
    "os\nsystem",
    "builtins\neval",
    "__builtin__\nset",
    "torch\nload",
    "torch\nfloat32",
    "torch._utils\n_rebuild_tensor_v3",
    "torch._utils\n_rebuild_parameter",
    "collections\nOrderedDict",
    "numpy._core.multiarray\n_reconstruct",
    "\x1b[31m\n\x07",
];
const KINDS: [&str; 6] =
    ["HalfStorage", "BFloat16Storage", "DoubleStorage", "BoolStorage", "ComplexFloatStorage", "NoStorage"];
/// Every opcode of protocols 0 to 5, and some bytes that are none.
const OPCODES: &[u8] = b"(.012FIJKLMNPQRSTUVXabcdegh}ijlopqrstu)]BC\x80\x81\x82\x85\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x98\0\xff";
/// An integer of 8 bytes.
const LONG: &[u8] = b"\x8a\x08";
const TENSOR: &[u8] = b"torch._utils\n_rebuild_tensor_v2";
const STORAGE: &[u8] = b"FloatStorage";

/// A good file of float32 tensors: a dictionary of names, shapes and bytes.
pub fn good(tensors: &[(String, Vec<u64>, Vec<u8>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    let mut entries = vec![("observed/byteorder".to_string(), b"little".to_vec())];
    for (number, (name, shape, data)) in tensors.iter().enumerate() {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let key = number.to_string();
        pickle.extend(
            [&text(name)[..], b"c", TENSOR, b"\n((", &text("storage"), b"ctorch\n", STORAGE].concat(),
        );
        pickle.extend([b"\n", &text(&key)[..], &text("cpu"), &long(data.len() as u64 / 4), b"tQ"].concat());
        pickle.extend([&long(0)[..], &longs(shape), &longs(&strides), b"\x89}tR"].concat());
        entries.push((format!("observed/data/{key}"), data.clone()));
    }
    pickle.extend(b"u.");
    entries.insert(0, ("observed/data.pkl".into(), pickle));
    zip::join(&entries)
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn long(number: u64) -> Vec<u8> {
    [LONG, &number.to_le_bytes()].concat()
}

fn longs(numbers: &[u64]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| long(*number)).collect();
    [b"(", &numbers[..], b"t"].concat()
}

/// A changed file.
pub fn mutate(random: &mut Random, file: &[u8]) -> (Vec<u8>, String) {
    let Some(mut entries) = zip::read(file) else { return (file.to_vec(), "no archive".into()) };
    if random.once_in(4) {
        return zip::mutate(random, file);
    }
    let chosen = random.below(entries.len());
    let (name, entry) = &mut entries[if random.once_in(6) { chosen } else { 0 }];
    let what = if name.ends_with("data.pkl") { pickle(random, entry) } else { bytes::mutate(random, entry) };
    let what = format!("{name}: {what}");
    (zip::join(&entries), what)
}

/// Changes a pickle.
fn pickle(random: &mut Random, pickle: &mut Vec<u8>) -> String {
    match random.below(9) {
        0 => {
            let name = *random.pick(&NAMES);
            replace(random, pickle, TENSOR, name.as_bytes());
            format!("asks for {name:?}")
        }
        1 => {
            let kind = *random.pick(&KINDS);
            replace(random, pickle, STORAGE, kind.as_bytes());
            format!("a {kind}")
        }
        2..4 => {
            let near = [0, 1, 2, 3, 64, 1 << 20];
            let far = [1 << 31, 1 << 32, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX];
            let number = if random.once_in(2) { *random.pick(&near) } else { *random.pick(&far) };
            replace(random, pickle, LONG, &[LONG, &number.to_le_bytes(), b"0"].concat());
            format!("{} before another number", number as i64)
        }
        4 => {
            let places: Vec<_> = places(pickle, LONG);
            let number = *random.pick(&[0, 1, 3, 1 << 20, 1 << 32, i64::MAX as u64, u64::MAX]);
            let at = places[random.below(places.len())] + LONG.len();
            pickle[at..at + 8].copy_from_slice(&number.to_le_bytes());
            format!("the number at {at} is {}", number as i64)
        }
        5 => {
            let (at, opcode) = (random.below(pickle.len()), *random.pick(OPCODES));
            if random.once_in(2) {
                pickle[at] = opcode;
            } else {
                pickle.insert(at, opcode);
            }
            format!("opcode {opcode:#x} at {at}")
        }
        6 => {
            let deep = *random.pick(&[&b"("[..], b"]q\0", b"}X\x01\0\0\0a", b"Nq\0", b"h\0"]);
            let end = if random.once_in(2) { &b"t"[..] } else { b"a" };
            *pickle = [&b"\x80\x02]q\0"[..], &deep.repeat(300_000), &end.repeat(300_000), b"."].concat();
            format!("{deep:?} again and again")
        }
        7 => {
            // Ten of the same in each of ten of the same.
            let mut laughs = b"\x80\x02]q\0".to_vec();
            for level in 0..30 {
                laughs.extend([b"](", &[b'h', level].repeat(10)[..], b"eq", &[level + 1]].concat());
            }
            laughs.push(b'.');
            *pickle = laughs;
            "10^30 lists".into()
        }
        _ if random.once_in(2) => {
            let name = hostile::text(random);
            *pickle = [&b"\x80\x02}"[..], &text(&name), &pickle[3..pickle.len() - 1], b"s."].concat();
            format!("inside {}", short(&name))
        }
        _ => bytes::mutate(random, pickle),
    }
}

fn places(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    windows.filter(|(_, window)| *window == part).map(|(at, _)| at).collect()
}

/// Replaces one of the places of `part`.
fn replace(random: &mut Random, bytes: &mut Vec<u8>, part: &[u8], by: &[u8]) {
    let places = places(bytes, part);
    if let Some(at) = places.get(random.below(places.len())) {
        bytes.splice(*at..*at + part.len(), by.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_changes_change_something() {
        let tensors = [("a".to_string(), vec![2, 1], vec![0; 8]), ("b".into(), vec![], vec![0; 4])];
        let file = good(&tensors);
        let entries = zip::read(&file).unwrap();
        assert_eq!(entries.len(), 4);
        assert_eq!(places(&entries[0].1, TENSOR).len(), 2);
        let changed = (0..300).filter(|index| mutate(&mut Random::new(0, "t", *index), &file).0 != file);
        assert!(changed.count() > 250);
    }
}
