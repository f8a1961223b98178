//! What subjects read from a fixture file.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Tensor, TensorData};

use qwen3_trace::{Rows, TensorFile};

use super::Bench;

impl Bench<'_> {
    /// A tensor of floats with `D` axes, on the device and in the dtype of the case.
    pub(super) fn input<const D: usize>(&self, file: &TensorFile, name: &str) -> Result<Tensor<D>> {
        let array = file.read(name)?;
        let Ok(shape) = <[usize; D]>::try_from(&array.shape[..]) else {
            bail!("tensor `{name}` has shape {:?}, expected {D} axes", array.shape);
        };
        let data = TensorData::new(array.floats(name)?.to_vec(), shape);
        let data = data.convert_dtype(self.dtype);
        Ok(Tensor::from_data(data, (self.device, self.dtype)))
    }
}

/// A matrix of integers from a fixture; at least one row and one column.
pub(super) struct Grid {
    pub(super) rows: Vec<Vec<i64>>,
}

impl Grid {
    pub(super) fn read(file: &TensorFile, name: &str) -> Result<Self> {
        let array = file.read(name)?;
        match (array.ints(name)?, &array.shape[..]) {
            (values, [batch, seq]) if *batch > 0 && *seq > 0 => {
                Ok(Self { rows: values.chunks(*seq).map(<[i64]>::to_vec).collect() })
            }
            (_, shape) => bail!("tensor `{name}` is not a non-empty matrix (shape {shape:?})"),
        }
    }
}

/// Positions and padding of a layer case.
pub(super) fn read_rows(file: &TensorFile) -> Result<Rows> {
    let grid = Grid::read(file, "position_ids")?;
    let position = |position: &i64| usize::try_from(*position);
    let row = |row: &Vec<i64>| row.iter().map(position).collect::<Result<Vec<_>, _>>();
    let positions = grid.rows.iter().map(row).collect::<Result<Vec<_>, _>>();
    let positions = positions.context("tensor `position_ids` has a negative position")?;
    let (batch, seq) = (positions.len(), positions[0].len());
    let visible = read_mask(file)?.unwrap_or_else(|| vec![vec![true; seq]; batch]);
    ensure!(
        visible.len() == batch && visible[0].len() == seq,
        "`attention_mask` and `position_ids` differ in shape"
    );
    Ok(Rows { positions, visible })
}

/// The `attention_mask` of a file, if it has one: true at tokens, false at padding.
pub fn read_mask(file: &TensorFile) -> Result<Option<Vec<Vec<bool>>>> {
    if !file.has("attention_mask") {
        return Ok(None);
    }
    let grid = Grid::read(file, "attention_mask")?;
    let mask = |row: &Vec<i64>| row.iter().map(|value| *value != 0).collect();
    Ok(Some(grid.rows.iter().map(mask).collect()))
}

/// The `columns` of a prefill's tokens that are stored, each below `length`.
pub fn read_columns(file: &TensorFile, length: usize) -> Result<Vec<usize>> {
    let array = file.read("columns")?;
    let columns = array.ints("columns")?.iter().map(|column| {
        let column = usize::try_from(*column).ok();
        column.filter(|column| *column < length)
    });
    let columns = columns.collect::<Option<Vec<_>>>();
    ensure!(
        array.shape.len() == 1 && columns.is_some(),
        "tensor `columns` is not a list of columns of {length} tokens"
    );
    Ok(columns.unwrap_or_default())
}

/// The tokens of each row, left padding taken off.
pub(super) fn prompts(ids: &Grid, visible: Option<&[Vec<bool>]>) -> Result<Vec<Vec<u32>>> {
    if let Some(mask) = visible {
        ensure!(
            mask.len() == ids.rows.len() && mask[0].len() == ids.rows[0].len(),
            "`attention_mask` and `input_ids` differ in shape"
        );
    }
    let prompt = |(row, ids): (usize, &Vec<i64>)| {
        let padding = visible.map_or(0, |mask| mask[row].iter().take_while(|seen| !**seen).count());
        ids[padding..].iter().map(|id| token(*id)).collect()
    };
    ids.rows.iter().enumerate().map(prompt).collect()
}

pub(super) fn token(id: i64) -> Result<u32> {
    u32::try_from(id).with_context(|| format!("{id} is not a token id"))
}
