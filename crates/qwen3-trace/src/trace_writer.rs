use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::TraceError;

/// Collects what passes through a model, and writes it as one safetensors file that `verify --observed` reads.
///
/// Names are those of the reference, `layer_00.self_attn.q_proj`, or any that `verify` takes (docs/verify.md). What is
/// inserted behind [`next_step`](Self::next_step) is of a cached step, and gets `step_001.` before its name.
///
/// ```
/// # fn main() -> Result<(), qwen3_trace::TraceError> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let file = folder.path().join("mine.safetensors");
/// use qwen3_trace::{TensorFile, TraceWriter};
/// let mut trace = TraceWriter::new(&file);
/// trace.insert("layer_00_output", &[1, 2, 3], vec![0.5; 6])?;
/// trace.next_step();
/// trace.insert("layer_00_output", &[1, 1, 3], vec![0.25; 3])?;
/// trace.write()?;
/// let names = TensorFile::open(&file)?.names();
/// assert_eq!(names, ["layer_00_output", "step_001.layer_00_output"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TraceWriter {
    file: PathBuf,
    step: usize,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl TraceWriter {
    /// Nothing yet, to be written to `file`.
    pub fn new(file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().into(), step: 0, tensors: BTreeMap::new() }
    }

    /// What follows is of the next pass: the one that reads the next token, with those before it in a cache.
    pub fn next_step(&mut self) {
        self.step += 1;
    }

    /// Takes a tensor in C order.
    ///
    /// # Errors
    /// When there is one of this name in this pass, or there are not as many values as the shape says.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<(), TraceError> {
        let key = self.key(name, shape, &values)?;
        match self.tensors.entry(key) {
            Entry::Vacant(place) => {
                place.insert((shape.into(), values));
                Ok(())
            }
            Entry::Occupied(there) => {
                let reason = format!(
                    "`{}` comes twice: a pass over the next token begins with next_step",
                    there.key()
                );
                Err(TraceError::write(&self.file, io::Error::other(reason)))
            }
        }
    }

    /// The same, or, where there is one of this name in this pass, what comes behind it along `axis`: of a prompt that is
    /// read in chunks.
    ///
    /// # Errors
    /// When there are not as many values as the shape says, or the other axes differ.
    pub fn append(
        &mut self,
        name: &str,
        shape: &[usize],
        values: Vec<f32>,
        axis: usize,
    ) -> Result<(), TraceError> {
        let key = self.key(name, shape, &values)?;
        let Some((before, all)) = self.tensors.get_mut(&key) else {
            self.tensors.insert(key, (shape.into(), values));
            return Ok(());
        };
        let alike = |axes: &[usize]| {
            let others = axes.iter().enumerate().filter(|(at, _)| *at != axis);
            others.map(|(_, size)| *size).collect::<Vec<_>>()
        };
        if axis >= shape.len() || alike(before) != alike(shape) {
            let reason =
                format!("`{key}` of shape {shape:?} does not fit behind {before:?} along axis {axis}");
            return Err(TraceError::write(&self.file, io::Error::other(reason)));
        }
        let runs = |shape: &[usize]| shape[axis..].iter().product::<usize>().max(1);
        let (run, behind) = (runs(before), runs(shape));
        let both = all.chunks(run).zip(values.chunks(behind));
        *all = both.flat_map(|(before, behind)| [before, behind].concat()).collect();
        before[axis] += shape[axis];
        Ok(())
    }

    /// The name in the file.
    fn key(&self, name: &str, shape: &[usize], values: &[f32]) -> Result<String, TraceError> {
        let key = match self.step {
            0 => name.into(),
            step => format!("step_{step:03}.{name}"),
        };
        if shape.iter().product::<usize>() != values.len() {
            let reason = format!("`{key}` has {} values and shape {shape:?}", values.len());
            return Err(TraceError::write(&self.file, io::Error::other(reason)));
        }
        Ok(key)
    }

    /// Writes the file: to one beside it, which then gets its name.
    ///
    /// # Errors
    /// When that fails; what was there before is then still there.
    pub fn write(self) -> Result<(), TraceError> {
        let failed = |error: io::Error| TraceError::write(&self.file, error);
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let beside = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
        let bytes =
            |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let tensors = self.tensors.iter().map(|(name, (shape, values))| (name, shape.clone(), bytes(values)));
        let tensors: Vec<_> = tensors.collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (*name, view.expect("as many bytes as the shape says"))
        });
        safetensors::serialize_to_file(views, None, beside.path())
            .map_err(|error| failed(io::Error::other(error)))?;
        beside.persist(&self.file).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TensorFile, Values};

    #[test]
    fn chunks_are_put_together_along_their_axis() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.safetensors");
        let mut trace = TraceWriter::new(&file);
        // Two heads, of two tokens and then of one.
        trace.append("q", &[1, 2, 2, 1], vec![1.0, 2.0, 4.0, 5.0], 2).unwrap();
        trace.append("q", &[1, 2, 1, 1], vec![3.0, 6.0], 2).unwrap();
        for (shape, axis) in [(vec![1, 3, 1, 1], 2), (vec![3], 2)] {
            let error = trace.append("q", &shape, vec![0.0; 3], axis).unwrap_err().to_string();
            assert!(error.contains("does not fit behind [1, 2, 3, 1]"), "{error}");
        }
        trace.write().unwrap();
        let array = TensorFile::open(&file).unwrap().read("q").unwrap();
        assert_eq!(
            (array.shape, array.values),
            (vec![1, 2, 3, 1], Values::Float(vec![1., 2., 3., 4., 5., 6.]))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.safetensors");
        std::fs::write(&file, "precious").unwrap();
        let mut trace = TraceWriter::new(&file);
        trace.insert("a", &[2], vec![0.0; 2]).unwrap();
        assert!(trace.insert("a", &[2], vec![0.0; 2]).unwrap_err().to_string().contains("`a` comes twice"));
        assert!(trace.insert("b", &[3], vec![0.0; 2]).unwrap_err().to_string().contains("`b` has 2 values"));
        drop(trace);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        assert!(TraceWriter::new(folder.path().join("none/x")).write().is_err());
    }
}
