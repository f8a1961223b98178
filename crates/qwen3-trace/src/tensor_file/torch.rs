#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use qwen3_checkpoint::open_regular;

use super::archive::{Archive, read_rest};
use super::decode::{Element, check_count};
use super::npy_files::stem;
use super::pickle::{self, TensorView};
use super::strided::Layout;
use super::{Format, Stored, dtype_error, malformed, no_tensor};
use crate::TraceError;

/// A `data.pkl` larger than this is not one of tensors: it has a hundred bytes of each.
const MAX_PICKLE_BYTES: u64 = 16 << 20;
/// What a view may take that is larger than its storage, where dimensions are expanded.
const MAX_EXPANDED_BYTES: u64 = 64 << 20;
/// What a file of PyTorch before 1.6 has near its beginning: `torch.serialization.MAGIC_NUMBER`.
const OLD_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Tensors that `torch.save` wrote, of PyTorch 1.6 or newer: a zip archive with a pickle that says where in which
/// storage a tensor lies, and the storages.
#[derive(Debug)]
pub(super) struct Torch {
    archive: Archive,
    /// The folder in the archive, with its slash.
    root: String,
    tensors: BTreeMap<String, TensorView>,
}

impl Torch {
    /// Opens a file and reads its pickle.
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let (mut file, _) = open_regular(path)?;
        let start = start_of(&mut file);
        if start.windows(OLD_MAGIC.len()).any(|bytes| bytes == OLD_MAGIC) {
            let reason = "in the format of PyTorch before 1.6, which is not read: load it with torch.load \
                          (weights_only=True) and save it again, or write safetensors";
            return Err(TraceError::malformed(path, reason));
        }
        let archive = Archive::open(path, "a file of torch.save")?;
        if archive.names().len() != archive.len() {
            return Err(TraceError::malformed(path, "the archive has a name twice"));
        }
        let root = |name: &String| {
            let root = name.strip_suffix("data.pkl")?;
            (root.ends_with('/') && root.matches('/').count() == 1).then(|| root.to_string())
        };
        let roots: Vec<_> = archive.names().iter().filter_map(root).collect();
        let [root] = &roots[..] else {
            return Err(TraceError::malformed(
                path,
                "not a file of torch.save: no data.pkl is in the archive",
            ));
        };
        let root = root.clone();
        let entry = |name: &str, most: u64| {
            archive.with(&format!("{root}{name}"), name, |entry, size| {
                if size > most {
                    return Err(malformed(path, name, format!("{size} bytes, at most {most} are read")));
                }
                read_rest(path, name, entry, size)
            })
        };
        // Files of before 2.1 do not say it.
        if archive.names().contains(&format!("{root}byteorder")) && entry("byteorder", 16)? != b"little" {
            return Err(TraceError::malformed(path, "written on a big-endian machine, which is not read"));
        }
        let tensors = pickle::tensors(&entry("data.pkl", MAX_PICKLE_BYTES)?, &stem(path)?)
            .map_err(|reason| TraceError::malformed(path, reason))?;
        if tensors.is_empty() {
            return Err(TraceError::malformed(path, "no tensor is in it"));
        }
        Ok(Self { archive, root, tensors })
    }

    fn view(&self, name: &str) -> Result<&TensorView, TraceError> {
        self.tensors.get(name).ok_or_else(|| no_tensor(self.archive.file(), name))
    }

    /// Where a tensor lies, once that is known to be within its storage.
    fn place(&self, name: &str) -> Result<Place, TraceError> {
        let (file, view) = (self.archive.file(), self.view(name)?);
        let TensorView { dtype, storage, shape, strides, offset } = view;
        let bad = |reason: String| malformed(file, name, reason);
        let element = element(dtype).ok_or_else(|| {
            let expected = "float16, bfloat16, float32, float64, int64, int32, int16, int8, uint8 or bool";
            dtype_error(file, name, expected, (*dtype).into())
        })?;
        let no_layout = || bad(format!("shape {shape:?} with strides {strides:?} is no layout"));
        let layout = Layout::new(shape, strides, *offset).ok_or_else(no_layout)?;
        check_count(file, name, layout.count(), element)?;

        let (numel, size) = (storage.numel, element.size() as u64);
        // An untyped storage is one of bytes.
        let unit = self::element(storage.dtype).map_or(0, Element::size) as u64;
        let bytes = numel.checked_mul(unit).ok_or_else(|| bad(format!("a storage of {numel} elements")))?;
        let (needed, there) = (layout.reach(), bytes / size);
        if needed > there {
            return Err(bad(format!(
                "shape {shape:?} with strides {strides:?} from {offset} on takes {needed} elements of its storage, \
                 which has {there}"
            )));
        }
        let expanded = layout.count().saturating_mul(size);
        if expanded > bytes.max(MAX_EXPANDED_BYTES) {
            let reason =
                format!("{bytes} bytes expanded to {expanded}, at most {MAX_EXPANDED_BYTES} are read");
            return Err(bad(reason));
        }
        let entry = format!("{}data/{}", self.root, storage.key);
        if !self.archive.names().contains(&entry) {
            return Err(bad(format!("its storage `{entry}` is not in the archive")));
        }
        self.archive.with(&entry, name, |_, found| {
            let claimed = format!("a storage of {bytes} bytes is claimed, there are {found}");
            if found == bytes { Ok(()) } else { Err(bad(claimed)) }
        })?;
        Ok(Place { layout, element, entry, bytes })
    }
}

/// Where a tensor lies.
struct Place {
    layout: Layout,
    element: Element,
    /// The archive's entry for its storage, and how large that is.
    entry: String,
    bytes: u64,
}

impl Format for Torch {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, TraceError> {
        Ok(self.place(name)?.layout.shape().to_vec())
    }

    fn stored(&self, name: &str) -> Result<Stored, TraceError> {
        let Place { layout, element, entry, bytes } = self.place(name)?;
        let file = self.archive.file();
        let storage = self.archive.with(&entry, name, |entry, _| read_rest(file, name, entry, bytes))?;
        let bytes = layout.gather(storage, element.size());
        Ok(Stored { element, shape: layout.shape().to_vec(), bytes })
    }
}

/// The first bytes of a file.
fn start_of(file: &mut File) -> Vec<u8> {
    let mut start = Vec::new();
    // What cannot be read is told by who reads the rest.
    let _ = file.take(32).read_to_end(&mut start);
    start
}

/// The element of a dtype, by PyTorch's name, that is read.
fn element(dtype: &str) -> Option<Element> {
    match dtype {
        "float16" => Some(Element::F16),
        "bfloat16" => Some(Element::BF16),
        "float32" => Some(Element::F32),
        "float64" => Some(Element::F64),
        "int64" => Some(Element::I64),
        "int32" => Some(Element::I32),
        "int16" => Some(Element::I16),
        "int8" => Some(Element::I8),
        "uint8" => Some(Element::U8),
        "bool" => Some(Element::Bool),
        _ => None,
    }
}
