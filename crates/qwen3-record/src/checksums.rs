//! Checksums of what is in a record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

/// The CRC-32 of the bytes of every tensor and every text of a record, by their names in it: a changed bit, or up to 32
/// in a row, is always noticed, which a hash of so many bits only makes likely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checksums(BTreeMap<String, u32>);

impl Checksums {
    /// Where a record keeps them in its metadata.
    pub const KEY: &str = "crc32";

    /// Reads what [`Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let (sum, name) = line.split_once(' ')?;
            Some((name.to_string(), u32::from_str_radix(sum, 16).ok()?))
        };
        let sums: BTreeMap<_, _> = text.lines().map(line).collect::<Option<_>>()?;
        (sums.len() == text.lines().count()).then_some(Self(sums))
    }

    /// Adds one.
    pub fn insert(&mut self, name: &str, bytes: &[u8]) {
        self.0.insert(name.into(), crc32fast::hash(bytes));
    }

    /// Compares the bytes under a name with its checksum.
    ///
    /// # Errors
    /// When they differ, or there is no checksum of this name.
    pub fn check(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.compare(name, crc32fast::hash(bytes))
    }

    /// Compares the CRC-32 `found` of the bytes under a name with its checksum.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn compare(&self, name: &str, found: u32) -> Result<(), String> {
        let expected = self.0.get(name).ok_or_else(|| format!("`{name}` has no checksum"))?;
        if found == *expected {
            return Ok(());
        }
        Err(format!("`{name}` is damaged: its checksum is {found:08x}, the record says {expected:08x}"))
    }

    /// A name that has a checksum and is not among these, or the reverse.
    pub fn odd_one<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let names: BTreeSet<_> = names.collect();
        let known: BTreeSet<_> = self.0.keys().map(String::as_str).collect();
        names.symmetric_difference(&known).next().copied()
    }
}

/// A line for each: eight hexadecimal digits, and the name.
impl Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, sum)| writeln!(f, "{sum:08x} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mut sums = Checksums::default();
        sums.insert("a b", b"123456789");
        sums.insert("c", b"");
        assert_eq!(sums.to_string(), "cbf43926 a b\n00000000 c\n");
        assert_eq!(Checksums::parse(&sums.to_string()), Some(sums));
        for bad in ["cbf43926", "x a", "1 a\n2 a"] {
            assert_eq!(Checksums::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_differs_is_named() {
        let mut sums = Checksums::default();
        sums.insert("a", b"1");
        assert_eq!(sums.check("a", b"1"), Ok(()));
        assert!(sums.check("a", b"0").unwrap_err().contains("`a` is damaged"));
        assert!(sums.check("b", b"1").is_err());
        assert_eq!(sums.odd_one(["a"].into_iter()), None);
        assert_eq!(sums.odd_one(["a", "b"].into_iter()), Some("b"));
        assert_eq!(sums.odd_one([].into_iter()), Some("a"));
    }
}
