//! A Burn record: a header in CBOR with `config.json` and other texts in it, then the tensors' bytes.

use crate::mutate::bytes;
use crate::random::Random;

/// Magic, version and the length of the header.
const START: usize = 10;

/// A changed record, and whether a weight has changed for certain.
pub fn mutate(random: &mut Random, good: &[u8]) -> (Vec<u8>, String, bool) {
    let mut record = good.to_vec();
    let header = good.get(6..START).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let end = (START + header as usize).min(good.len());
    match random.below(6) {
        0..2 => {
            // Neither padding nor the header: among bytes that are not zero.
            let weight = |at: &usize| good[at - 4..at + 4].iter().all(|byte| *byte != 0);
            let chosen = (0..1000).map(|_| end + 4096 + random.below(good.len() - end - 8192)).find(weight);
            let Some(at) = chosen else { return (record, "no weight found".into(), false) };
            record[at] ^= 1 << random.below(8);
            (record, format!("weights: a bit flipped at {at}"), true)
        }
        2 => {
            let digits: Vec<_> = (START..end).filter(|at| good[*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let at = *random.pick(&digits);
                record[at] = b'0' + random.below(10) as u8;
                return (record, format!("header: another digit at {at}"), false);
            }
            (record, "no digit".into(), false)
        }
        3 => {
            let lie = *random.pick(&[0, 1, header - 1, header + 1, header * 2, 0x7fff_ffff, u32::MAX]);
            record[6..START].copy_from_slice(&lie.to_le_bytes());
            (record, format!("the header's length said to be {lie}"), false)
        }
        4 => {
            let at = bytes::flip(random, &mut record, 0..end).unwrap_or_default();
            (record, format!("header: a bit flipped at {at}"), false)
        }
        _ => {
            let what = bytes::mutate(random, &mut record);
            (record, what, false)
        }
    }
}
