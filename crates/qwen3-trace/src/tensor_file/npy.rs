//! An array as `numpy.save` writes it: a header, and values.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::archive::read_rest;
use super::decode::{Element, check_count, count};
use super::strided::Layout;
use super::{Stored, check_size, dtype_error, malformed};
use crate::TraceError;

/// A header longer than this is not one of a plain array.
const MAX_HEADER: usize = 4096;

/// An array's header, checked against the number of bytes that are there.
pub(super) struct Npy {
    element: Element,
    shape: Vec<usize>,
    /// The bytes of its data.
    bytes: u64,
    /// Where values lie if not in C order.
    fortran: Option<Layout>,
}

impl Npy {
    /// Reads the header of tensor `tensor`, which takes `size` bytes in all, to its end.
    pub(super) fn read(
        file: &Path,
        tensor: &str,
        from: &mut impl Read,
        size: u64,
    ) -> Result<Self, TraceError> {
        check_size(file, tensor, size)?;
        let (header, length) = header(from).map_err(|reason| malformed(file, tensor, reason))?;
        let element = element(&header.descr).ok_or_else(|| {
            let expected = "<f2, <f4, <f8, <i8, <i4, <i2, |i1, |u1 or |b1";
            dtype_error(file, tensor, expected, header.descr.to_string().replace('"', "'"))
        })?;
        let bytes = size.saturating_sub(length);
        let shape = header.shape;
        let fits = count(&shape, element, bytes);
        let no_fit = || malformed(file, tensor, format!("{bytes} bytes of data do not fit shape {shape:?}"));
        check_count(file, tensor, fits.ok_or_else(no_fit)?, element)?;
        let fortran =
            if header.fortran_order { Some(Layout::fortran(&shape).ok_or_else(no_fit)?) } else { None };
        Ok(Self { element, shape: shape.iter().map(|&dim| dim as usize).collect(), bytes, fortran })
    }

    /// The array's shape.
    pub(super) fn shape(self) -> Vec<usize> {
        self.shape
    }

    /// Reads the values behind the header.
    pub(super) fn stored(
        self,
        file: &Path,
        tensor: &str,
        from: &mut impl Read,
    ) -> Result<Stored, TraceError> {
        let Self { element, shape, bytes, fortran } = self;
        let mut bytes = read_rest(file, tensor, from, bytes)?;
        if let Some(layout) = fortran {
            bytes = layout.gather(bytes, element.size());
        }
        Ok(Stored { element, shape, bytes })
    }
}

/// What stands before the data, as `numpy.lib.format` tells it.
#[derive(Deserialize)]
struct Header {
    descr: Value,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The header, read to its end, and how many bytes that took.
fn header(npy: &mut impl Read) -> Result<(Header, u64), String> {
    let mut read = |bytes: &mut [u8]| {
        npy.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => "too short for an npy array".to_string(),
            _ => error.to_string(),
        })
    };
    let mut magic = [0; 8];
    read(&mut magic)?;
    let field = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0] => 2,
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, 0] => 4,
        _ => return Err("not an npy array of version 1, 2 or 3".into()),
    };
    let mut length = [0; 4];
    read(&mut length[..field])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes, at most {MAX_HEADER} are read"));
    }
    let mut text = vec![0; length];
    read(&mut text)?;

    // A Python dict of a text, a boolean and a tuple, which is JSON but for the signs. A plain array's has no
    // text with a sign in it; another's is not read.
    let text: String = String::from_utf8_lossy(&text).split_whitespace().collect();
    let json = text.replace('\'', "\"").replace("False", "false").replace("True", "true");
    let json = json.replace('(', "[").replace(')', "]").replace(",]", "]").replace(",}", "}");
    let header = serde_json::from_str(&json)
        .map_err(|error| format!("the header is not that of a plain array: {error}"))?;
    Ok((header, (magic.len() + field + length) as u64))
}

/// The element of a dtype that is read.
fn element(descr: &Value) -> Option<Element> {
    match descr.as_str()? {
        "<f2" => Some(Element::F16),
        "<f4" => Some(Element::F32),
        "<f8" => Some(Element::F64),
        "<i8" => Some(Element::I64),
        "<i4" => Some(Element::I32),
        "<i2" => Some(Element::I16),
        "|i1" => Some(Element::I8),
        "|u1" => Some(Element::U8),
        "|b1" => Some(Element::Bool),
        _ => None,
    }
}
