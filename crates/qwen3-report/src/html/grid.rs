//! A run's tensors as rows and columns: how deep in the model, and which tensor of a layer.

use std::collections::BTreeMap;

use qwen3_trace::{LayerVerdict, Mode};

use crate::RunResult;
use crate::measure::{ratio, worse};

/// How deep in the model, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// Before the first layer; a rank and the tensor's name.
    Before(u8, &'a str),
    /// A layer, counted from zero.
    Layer(usize),
    /// After the last layer; a rank and the tensor's name.
    After(u8, &'a str),
}

impl<'a> Place<'a> {
    /// Where the tensor belongs.
    pub fn of(tensor: &'a LayerVerdict) -> Self {
        match (tensor.layer, tensor.verdict.name.as_str()) {
            (Some(layer), _) => Self::Layer(layer),
            (None, name) if name.starts_with("embedding") => Self::Before(0, name),
            (None, name) if name.starts_with("rope") => Self::Before(1, name),
            (None, name) if name.starts_with("final_norm") => Self::After(0, name),
            (None, name) if name.starts_with("logits") => Self::After(1, name),
            (None, name) => Self::After(2, name),
        }
    }

    /// `embedding`, `layer 3`, `final norm`, `logits`.
    pub fn label(&self) -> String {
        match *self {
            Self::Layer(layer) => format!("layer {layer}"),
            Self::Before(_, name) | Self::After(_, name) => {
                name.trim_end_matches("_output").replace('_', " ")
            }
        }
    }
}

/// The tensor's name within its layer: `self_attn.q_rope`, `output`.
pub fn column(tensor: &LayerVerdict) -> &str {
    let name = tensor.verdict.name.as_str();
    match name.strip_prefix("layer_") {
        Some(rest) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.trim_start_matches(['.', '_'])
        }
        None if tensor.layer.is_some() => name,
        None => "output",
    }
}

/// One run in one mode.
#[derive(Debug)]
pub struct Grid<'a> {
    /// The columns, in the order of computation; `output` is the last.
    pub columns: Vec<&'a str>,
    /// The rows, by depth; a cell for each column, empty where nothing was compared.
    pub rows: BTreeMap<Place<'a>, Vec<Option<&'a LayerVerdict>>>,
}

impl<'a> Grid<'a> {
    /// Lays out the run's tensors of one mode; `None` when there are none.
    ///
    /// Of several tensors in one cell the worst is shown.
    pub fn new(run: &'a RunResult, mode: Mode) -> Option<Self> {
        let mut columns: Vec<&str> = Vec::new();
        for column in run.verdicts.of(mode).map(column) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns.sort_by_key(|column| *column == "output");
        let mut rows: BTreeMap<Place, Vec<Option<&LayerVerdict>>> = BTreeMap::new();
        for tensor in run.verdicts.of(mode) {
            let row = rows.entry(Place::of(tensor)).or_insert_with(|| vec![None; columns.len()]);
            let cell = columns.iter().position(|name| *name == column(tensor));
            let cell = &mut row[cell.expect("each tensor's column is listed")];
            *cell = Some(cell.map_or(tensor, |other| worse(other, tensor)));
        }
        (!rows.is_empty()).then_some(Self { columns, rows })
    }

    /// The worst error over limit at each depth; infinite when a tensor is not finite.
    pub fn worst_by_place(&self) -> BTreeMap<Place<'a>, f64> {
        let worst = |row: &[Option<&LayerVerdict>]| row.iter().flatten().map(|t| ratio(t)).reduce(f64::max);
        let rows = self.rows.iter();
        rows.filter_map(|(&place, row)| Some((place, worst(row)?))).collect()
    }
}

/// The modes that any run has.
pub fn modes(runs: &[RunResult]) -> Vec<Mode> {
    let has = |mode: &Mode| runs.iter().any(|run| run.verdicts.of(*mode).next().is_some());
    Mode::ALL.into_iter().filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor};

    #[test]
    fn rows_are_by_depth_and_output_is_the_last_column() {
        let accumulated = |name, ratio| tensor(Mode::Accumulated, name, ratio);
        let run = sample::run(
            "flex",
            Status::Fail,
            vec![
                accumulated("logits", Some(0.1)),
                accumulated("embedding_output", Some(0.1)),
                accumulated("layer_10.mlp", Some(0.1)),
                accumulated("layer_02.mlp", Some(0.1)),
                accumulated("layer_02_output", Some(0.3)),
                accumulated("layer_02_output", None),
                accumulated("final_norm_output", Some(0.1)),
                LayerVerdict { layer: Some(2), ..tensor(Mode::Patched, "logits", Some(0.1)) },
            ],
        );
        let grid = Grid::new(&run, Mode::Accumulated).unwrap();
        assert_eq!(grid.columns, ["mlp", "output"]);
        let labels: Vec<_> = grid.rows.keys().map(Place::label).collect();
        assert_eq!(labels, ["embedding", "layer 2", "layer 10", "final norm", "logits"]);
        assert_eq!(grid.worst_by_place()[&Place::Layer(2)], f64::INFINITY);
        let patched = Grid::new(&run, Mode::Patched).unwrap();
        assert_eq!(patched.columns, ["logits"]);
        assert_eq!(patched.rows.keys().next(), Some(&Place::Layer(2)));
        assert!(Grid::new(&run, Mode::Isolated).is_none());
        assert_eq!(modes(&[run]), [Mode::Accumulated, Mode::Patched]);
    }
}
