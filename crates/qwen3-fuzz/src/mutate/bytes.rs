//! Any file as bytes.

use crate::random::Random;

/// Bytes that are 0.3 MB of brackets, more than any stack takes.
const DEEP: usize = 300_000;

/// Changes bytes, whatever they mean.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) -> String {
    let length = bytes.len();
    match random.below(8) {
        0 => {
            let flips = *random.pick(&[1, 1, 2, 8]);
            let places: Vec<_> = (0..flips).filter_map(|_| flip(random, bytes, 0..length)).collect();
            format!("bits flipped at {places:?}")
        }
        1 => {
            let end = random.below(length);
            bytes.truncate(end);
            format!("cut to {end} of {length} bytes")
        }
        2 => {
            let (from, to) = (random.below(length), random.below(length));
            let piece = bytes[from..].iter().take(1 + random.below(64)).copied().collect::<Vec<_>>();
            let end = (to + piece.len()).min(length);
            bytes.splice(to..end, piece.iter().take(end - to).copied());
            format!("{} bytes of {from} written over {to}", end - to)
        }
        3 => {
            let at = random.below(length + 1);
            let piece: Vec<_> = (0..1 + random.below(16)).map(|_| random.byte()).collect();
            bytes.splice(at..at, piece.iter().copied());
            format!("{} random bytes put in at {at}", piece.len())
        }
        4 => {
            let from = random.below(length);
            let end = (from + 1 + random.below(64)).min(length);
            bytes.drain(from..end);
            format!("bytes {from}..{end} taken out")
        }
        5 => {
            let piece = *random.pick(&[&b"\0"[..], b"\xff\xfe", b"\n{}", b"]]]]", b"\xf0\x9f"]);
            bytes.extend(piece);
            format!("{piece:?} put behind the end")
        }
        6 => {
            bytes.clear();
            "emptied".into()
        }
        _ => {
            let byte = *random.pick(&[0, 0xff, b'[', b'{', b'9', b' ']);
            let from = random.below(length);
            let end = (from + 1 + random.below(256)).min(length);
            bytes[from..end].fill(byte);
            format!("bytes {from}..{end} filled with {byte:#x}")
        }
    }
}

/// Flips a bit in `range`; where.
pub fn flip(random: &mut Random, bytes: &mut [u8], range: std::ops::Range<usize>) -> Option<usize> {
    let at = range.start + random.below(range.len());
    *bytes.get_mut(at)? ^= 1 << random.below(8);
    Some(at)
}

/// Changes bytes that should be text.
pub fn text(random: &mut Random, bytes: &mut Vec<u8>) -> String {
    match random.below(6) {
        0 => {
            bytes.splice(0..0, *b"\xef\xbb\xbf");
            "a byte order mark in front".into()
        }
        1 => {
            let text = String::from_utf8_lossy(bytes).into_owned();
            *bytes = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
            "as UTF-16".into()
        }
        2 => {
            let bad = *random.pick(&[&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]);
            let at = random.below(bytes.len() + 1);
            bytes.splice(at..at, bad.iter().copied());
            format!("{bad:?}, which is not UTF-8, at {at}")
        }
        3 => {
            let open = *random.pick(&["[", "{\"a\":", "[{\"a\":", "("]);
            *bytes = open.repeat(DEEP / open.len()).into_bytes();
            format!("{open:?} again and again")
        }
        4 => {
            *bytes = vec![*random.pick(b" \n\0x9"); 1 << 20];
            "1 MB of one byte".into()
        }
        _ => mutate(random, bytes),
    }
}
