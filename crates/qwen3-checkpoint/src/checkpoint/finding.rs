//! Where tensors are in the files, and how they are stored there.

use std::path::Path;

use qwen3_config::{EMBEDDING, HEAD};

use super::Checkpoint;
use super::numbers::StoredAs;
use super::reading::Found;
use crate::fp8::{Fp8Matrix, scales_key};
use crate::layout::Place;
use crate::weight_file::WeightFile;
use crate::{CheckpointError, Encoding};

impl Checkpoint {
    /// Where tensor `key` of `shape` is, and how it is stored there.
    pub(super) fn find(&self, key: &str, shape: &[usize]) -> Result<Found<'_>, CheckpointError> {
        let place = self.place(key, shape);
        let (file, encoding) = self.header(&place.key, &place.shape)?;
        let stored = self.stored_as(file, encoding, &place)?;
        Ok(Found { file, place, stored })
    }

    /// How the tensor of `encoding` at `place` is to be read.
    pub(super) fn stored_as(
        &self,
        file: &WeightFile,
        encoding: Encoding,
        place: &Place,
    ) -> Result<StoredAs, CheckpointError> {
        match (&encoding, self.fp8, &place.shape[..]) {
            (&Encoding::Plain(precision), _, _) => Ok(StoredAs::Plain(precision)),
            (&Encoding::Blocks(format), _, _) => Ok(StoredAs::Blocks(format)),
            (Encoding::Fp8, Some(blocks), &[rows, columns]) => {
                let (key, shape) = (scales_key(&place.key), Fp8Matrix::scales_shape(blocks, [rows, columns]));
                match self.header(&key, &shape)? {
                    (_, Encoding::Plain(_)) => Ok(StoredAs::Fp8(blocks)),
                    (file, other) => Err(not_read(file.path(), &key, &other)),
                }
            }
            _ => Err(not_read(file.path(), &place.key, &encoding)),
        }
    }

    /// Where tensor `key` of `shape` is to be looked for: by itself, or, where there is no such key, among the experts
    /// of a layer that are stored as one tensor.
    pub(super) fn place(&self, key: &str, shape: &[usize]) -> Place {
        let own = self.layout.stored(key);
        let alone = || Place { key: own.into(), shape: shape.into(), start: 0 };
        if self.keys.contains_key(own) {
            return alone();
        }
        let fused =
            self.config.sparse.as_ref().and_then(|sparse| Place::fused(own, shape, sparse.experts.count));
        fused.filter(|place| self.keys.contains_key(&place.key)).unwrap_or_else(alone)
    }

    /// The file and dtype of the tensor that is spelled `key` there, which must be of `shape`.
    pub(super) fn header(
        &self,
        key: &str,
        shape: &[usize],
    ) -> Result<(&WeightFile, Encoding), CheckpointError> {
        let Some(&shard) = self.keys.get(key) else {
            let (file, key) = (self.listing.clone(), key.to_string());
            return Err(match key.as_str() {
                HEAD => CheckpointError::NoHead { file, key },
                _ => CheckpointError::MissingKey { file, key },
            });
        };
        let shard = &self.shards[shard];
        let header = shard.header(key).expect("its keys were listed");
        if header.shape != shape {
            return Err(CheckpointError::Shape {
                file: shard.path().into(),
                key: key.into(),
                expected: shape.into(),
                found: header.shape.into(),
            });
        }
        Ok((shard, header.encoding))
    }

    pub(super) fn check_tied_head(&self) -> Result<(), CheckpointError> {
        const CHUNK_ROWS: usize = 4096;
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let (head, embedding) = (self.find(HEAD, &shape)?, self.find(EMBEDDING, &shape)?);
        let row = head.stored.bytes(shape[1]);
        let mut equal = head.stored == embedding.stored && !matches!(head.stored, StoredAs::Fp8(_));
        for start in (0..shape[0]).step_by(CHUNK_ROWS) {
            let range = start * row..shape[0].min(start + CHUNK_ROWS) * row;
            equal = equal && head.bytes(range.clone())? == embedding.bytes(range)?;
        }
        if equal {
            return Ok(());
        }
        let file = head.file.path().into();
        Err(CheckpointError::TiedWeightsDiffer { file })
    }
}

pub(crate) fn not_read(file: &Path, key: &str, encoding: &Encoding) -> CheckpointError {
    CheckpointError::TensorDType {
        file: file.into(),
        key: key.into(),
        dtype: encoding.to_string().to_uppercase(),
    }
}
