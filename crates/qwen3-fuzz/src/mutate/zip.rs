//! A zip archive, written by hand so that it can lie.

use std::io::{Cursor, Read, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compress, Compression, FlushCompress};

use crate::mutate::{bytes, json::short, npy};
use crate::{hostile, random::Random};

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END: u32 = 0x0605_4b50;

/// A file in the archive, with what its headers say of it.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    method: u16,
    flags: u16,
    crc: u32,
    stored: Vec<u8>,
    /// Said of the lengths, stored and unpacked.
    lengths: [u32; 2],
}

impl Member {
    fn new(name: impl Into<Vec<u8>>, bytes: &[u8], method: u16) -> Self {
        let stored = if method == DEFLATED { deflated(bytes) } else { bytes.to_vec() };
        let lengths = [stored.len() as u32, bytes.len() as u32];
        Self { name: name.into(), method, flags: 0, crc: crc32fast::hash(bytes), stored, lengths }
    }

    /// `megabytes` of zeros in a thousandth of them.
    fn bomb(name: &str, start: &[u8], megabytes: u32) -> Self {
        let mut stored = Vec::new();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(start);
        let mut compress = Compress::new(Compression::best(), false);
        stored.reserve(8192 + start.len());
        let _ = compress.compress_vec(start, &mut stored, FlushCompress::Full);
        // What is compressed after a full flush looks back to nothing before it, so it can be repeated.
        let zeros = vec![0; 1 << 20];
        let mut block = Vec::with_capacity(8192);
        let _ = compress.compress_vec(&zeros, &mut block, FlushCompress::Full);
        let mut of_zeros = crc32fast::Hasher::new();
        of_zeros.update(&zeros);
        for _ in 0..megabytes {
            stored.extend(&block);
            hasher.combine(&of_zeros);
        }
        // The last block, which is empty.
        stored.extend([3, 0]);
        let lengths = [stored.len() as u32, start.len() as u32 + (megabytes << 20)];
        Self { name: name.into(), method: DEFLATED, flags: 0, crc: hasher.finalize(), stored, lengths }
    }

    fn header(&self, signature: u32) -> Vec<u8> {
        let mut out = signature.to_le_bytes().to_vec();
        if signature == CENTRAL {
            out.extend(20_u16.to_le_bytes());
        }
        for field in [20, self.flags, self.method, 0, 0x21] {
            out.extend(field.to_le_bytes());
        }
        for field in [self.crc, self.lengths[0], self.lengths[1]] {
            out.extend(field.to_le_bytes());
        }
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend([0, 0]);
        out
    }
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// The archive; what its end says can be wrong, too.
fn written(members: &[Member], lie: impl FnOnce(&mut [u32; 3])) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for member in members {
        let at = out.len() as u32;
        out.extend(member.header(LOCAL));
        out.extend(&member.name);
        out.extend(&member.stored);
        central.extend(member.header(CENTRAL));
        central.extend([0; 10]);
        central.extend(at.to_le_bytes());
        central.extend(&member.name);
    }
    let mut end = [members.len() as u32, central.len() as u32, out.len() as u32];
    lie(&mut end);
    out.extend(central);
    out.extend(END.to_le_bytes());
    out.extend([0; 4]);
    out.extend((end[0] as u16).to_le_bytes());
    out.extend((end[0] as u16).to_le_bytes());
    out.extend(end[1].to_le_bytes());
    out.extend(end[2].to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A changed npz, or another archive.
pub fn mutate(random: &mut Random, file: &[u8]) -> (Vec<u8>, String) {
    let Some(mut arrays) = read(file) else { return (file.to_vec(), "no npz".into()) };
    let chosen = random.below(arrays.len());
    let method = *random.pick(&[STORED, DEFLATED]);
    if random.once_in(3) {
        let what = npy::mutate(random, &mut arrays[chosen].1);
        let what = format!("{}: {what}", arrays[chosen].0);
        return (written(&members(&arrays, method), |_| {}), what);
    }
    if random.once_in(8) {
        let mut whole = file.to_vec();
        let what = bytes::mutate(random, &mut whole);
        return (whole, what);
    }
    let name = arrays[chosen].0.clone();
    let mut members = members(&arrays, method);
    let member = &mut members[chosen];
    let what = match random.below(9) {
        0 => {
            member.crc ^= 1;
            "its CRC is wrong".to_string()
        }
        1 => {
            let which = random.below(2);
            member.lengths[which] = *random.pick(&[0, 1, 0x7fff_ffff, 0xffff_fffe, u32::MAX]);
            format!("length {which} said to be {}", member.lengths[which])
        }
        2 => {
            let text = hostile::text(random);
            member.name = text.as_bytes()[..text.len().min(60_000)].into();
            format!("named {}", short(&text))
        }
        3 => {
            let twin = member.clone();
            members.push(twin);
            "there twice".into()
        }
        4 => {
            // 1 GB under the name of a tensor, with a header that says so, or one of another shape.
            let shape = *random.pick(&["(268435456,)", "(4,)", "(1, 4, 16)"]);
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
            let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()];
            *member = Member::bomb(&name, &start.concat(), 1024);
            if random.once_in(2) {
                member.lengths[1] = 64;
            }
            format!("1 GB of zeros for {shape}")
        }
        5 => {
            member.method = *random.pick(&[STORED, DEFLATED, 1, 9, 12, 14, 93, 99]);
            format!("packed by method {}", member.method)
        }
        6 => {
            member.flags = *random.pick(&[1, 8, 0x40, 0x800, 0xffff]);
            format!("flags {:#x}", member.flags)
        }
        7 => {
            let small = member.clone();
            members.extend(std::iter::repeat_n(Member { stored: vec![], ..small }, 20_000));
            "there 20,000 times".into()
        }
        _ => {
            members.remove(chosen);
            "left out".into()
        }
    };
    let mut lied = String::new();
    let bytes = written(&members, |end| {
        if random.once_in(8) {
            let which = random.below(3);
            end[which] = *random.pick(&[0, 1, end[which] + 1, end[which] / 2, 0xffff, u32::MAX]);
            lied = format!("; the end says {end:?}");
        }
    });
    (bytes, format!("{name}: {what}{lied}"))
}

/// An archive without lies.
pub fn join(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    written(&members(files, STORED), |_| {})
}

fn members(arrays: &[(String, Vec<u8>)], method: u16) -> Vec<Member> {
    arrays.iter().map(|(name, npy)| Member::new(name.as_str(), npy, method)).collect()
}

/// Names and contents of a good archive.
pub fn read(file: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(file)).ok()?;
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).ok()?;
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).ok()?;
        members.push((member.name().to_string(), bytes));
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_without_lies_is_read() {
        let arrays = vec![("a.npy".to_string(), b"1234".to_vec()), ("b.npy".into(), vec![0; 999])];
        for method in [STORED, DEFLATED] {
            assert_eq!(read(&written(&members(&arrays, method), |_| {})), Some(arrays.clone()));
        }
    }

    #[test]
    fn a_bomb_unpacks_to_what_it_says() {
        let bomb = Member::bomb("a.npy", b"start", 3);
        assert!(bomb.stored.len() < 8192);
        let read = read(&written(&[bomb], |_| {})).unwrap();
        assert_eq!(read[0].1.len(), 5 + (3 << 20));
        assert!(read[0].1.starts_with(b"start\0"));
    }
}
