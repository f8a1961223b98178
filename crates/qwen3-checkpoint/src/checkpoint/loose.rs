//! The tensors as they are in the files, whatever the config asks for.

use std::path::PathBuf;

use super::Checkpoint;
use super::reading::Found;
use crate::fp8::scales_key;
use crate::layout::Place;
use crate::{CheckpointError, Encoding};

/// A tensor as it is in the files.
#[derive(Clone, Debug)]
pub struct LooseTensor {
    /// Its key as `Qwen3ForCausalLM` has it, whatever the files put before it; of each expert one, where they are stored
    /// as one tensor.
    pub key: String,
    /// Its shape, whatever the config asks for.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub encoding: Encoding,
    /// The file that holds it.
    pub file: PathBuf,
    /// Where it is there.
    place: Place,
}

impl Checkpoint {
    /// Every tensor in the files, in no order, without the scales of others.
    pub fn loose_tensors(&self) -> Vec<LooseTensor> {
        let is_scales = |key: &str| {
            let of_fp8 = |(other, shard): (&String, &usize)| {
                let header = self.shards[*shard].header(other).expect("its keys were listed");
                header.encoding == Encoding::Fp8 && scales_key(other) == key
            };
            key.strip_suffix(&scales_key(""))
                .is_some_and(|of| self.keys.get_key_value(of).is_some_and(of_fp8))
        };
        let keys = self.keys.iter().filter(|(key, _)| !is_scales(key));
        let mut tensors = Vec::new();
        for (key, &shard) in keys {
            let file = &self.shards[shard];
            let header = file.header(key).expect("its keys were listed");
            for (canonical, shape, start) in self.layout.parts(key, header.shape) {
                let place = Place { key: key.clone(), shape: header.shape.into(), start };
                let (encoding, file) = (header.encoding.clone(), file.path().into());
                tensors.push(LooseTensor { key: canonical, shape, encoding, file, place });
            }
        }
        tensors
    }

    /// As many values of a tensor as there is room for, from the one with flat index `start` on, as they are: NaN too.
    ///
    /// # Errors
    /// When the file cannot be read, the tensor is stored as something that is not read, or its scales are missing or
    /// not finite.
    ///
    /// # Panics
    /// When the tensor is not this checkpoint's, or has no such values.
    pub fn loose_values(
        &self,
        tensor: &LooseTensor,
        start: usize,
        values: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let place = tensor.place.clone();
        let file = &self.shards[self.keys[&place.key]];
        let stored = self.stored_as(file, tensor.encoding.clone(), &place)?;
        let found = Found { file, place, stored };
        found.widened(&self.numbers(&found)?, found.place.start + start, values)
    }
}
