//! A run's tensors as rows and columns: how deep in the model, and which tensor of a layer.

use std::collections::BTreeMap;

use qwen3_trace::{LayerVerdict, Mode, TokenVerdict};

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

/// The name of the ids that were chosen by the logits.
pub const GENERATED_IDS: &str = "generated_ids";
/// Their row.
const IDS: Place = Place::After(u8::MAX, GENERATED_IDS);

impl<'a> Place<'a> {
    /// Where the tensor belongs.
    pub fn of(tensor: &'a LayerVerdict) -> Self {
        match (tensor.layer, tensor.verdict.name.as_str()) {
            (Some(layer), _) => Self::Layer(layer),
            (None, GENERATED_IDS) => IDS,
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

/// The column of what a layer gives, and of everything outside layers.
pub const OUTPUT: &str = "output";

/// What a cell shows.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// A tensor against its limit.
    Tensor(&'a LayerVerdict),
    /// The generated ids, which have no limit: one is right, a tie, or wrong.
    Ids(&'a [TokenVerdict]),
}

impl<'a> Cell<'a> {
    /// Is it beyond its limit, or is an id wrong?
    pub fn fails(self) -> bool {
        match self {
            Self::Tensor(tensor) => !tensor.verdict.pass,
            Self::Ids(tokens) => wrong_ids(tokens) > 0,
        }
    }

    /// The tensor, if it is one.
    pub fn tensor(self) -> Option<&'a LayerVerdict> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Ids(_) => None,
        }
    }
}

/// How many ids are neither right nor a tie.
pub fn wrong_ids(tokens: &[TokenVerdict]) -> usize {
    tokens.iter().filter(|token| !token.passes()).count()
}

/// The tensors that have a limit: generated ids have none, and are told by [`TokenVerdict`]s where a report counts
/// them among its tensors, too.
pub fn tensors(run: &RunResult) -> impl Iterator<Item = &LayerVerdict> + Clone {
    run.verdicts.tensors.iter().filter(|tensor| tensor.verdict.name != GENERATED_IDS)
}

/// One run in one mode.
#[derive(Debug)]
pub struct Grid<'a> {
    /// The columns: `output`, which sums a row up, and then what is inside a layer in the order of computation.
    pub columns: Vec<&'a str>,
    /// The rows, by depth; a cell for each column, empty where nothing was compared.
    pub rows: BTreeMap<Place<'a>, Vec<Option<Cell<'a>>>>,
}

impl<'a> Grid<'a> {
    /// Lays out the run's tensors of one mode, and with the accumulated ones its generated ids; `None` when there
    /// are none.
    ///
    /// Of several tensors in one cell the worst is shown.
    pub fn new(run: &'a RunResult, mode: Mode) -> Option<Self> {
        let tokens = ids(run, mode);
        let mut columns: Vec<&str> = Vec::new();
        for column in run.verdicts.of(mode).map(column).chain(tokens.map(|_| OUTPUT)) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns.sort_by_key(|column| *column != OUTPUT);
        let mut rows: BTreeMap<Place, Vec<Option<Cell>>> = BTreeMap::new();
        let mut add = |place, column: &str, cell: Cell<'a>| {
            let row = rows.entry(place).or_insert_with(|| vec![None; columns.len()]);
            let at = columns.iter().position(|name| *name == column);
            let here = &mut row[at.expect("each tensor's column is listed")];
            *here = match (*here, cell) {
                (Some(Cell::Tensor(other)), Cell::Tensor(tensor)) => Some(Cell::Tensor(worse(other, tensor))),
                _ => Some(cell),
            };
        };
        for tensor in run.verdicts.of(mode) {
            add(Place::of(tensor), column(tensor), Cell::Tensor(tensor));
        }
        if let Some(tokens) = tokens {
            add(IDS, OUTPUT, Cell::Ids(tokens));
        }
        (!rows.is_empty()).then_some(Self { columns, rows })
    }

    /// Every cell, row by row.
    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> {
        self.rows.values().flatten().flatten().copied()
    }

    /// The worst error over limit at each depth; infinite when a tensor is not finite.
    pub fn worst_by_place(&self) -> BTreeMap<Place<'a>, f64> {
        let ratios = |row: &[Option<Cell>]| {
            let tensors = row.iter().flatten().filter_map(|cell| cell.tensor());
            tensors.map(ratio).reduce(f64::max)
        };
        let rows = self.rows.iter();
        rows.filter_map(|(&place, row)| Some((place, ratios(row)?))).collect()
    }
}

/// The ids that the run generated, which belong to its whole runs.
fn ids(run: &RunResult, mode: Mode) -> Option<&[TokenVerdict]> {
    (mode == Mode::Accumulated && !run.verdicts.tokens.is_empty()).then_some(&run.verdicts.tokens[..])
}

/// The modes that any run has.
pub fn modes(runs: &[RunResult]) -> Vec<Mode> {
    let has = |run: &RunResult, mode| run.verdicts.of(mode).next().is_some() || ids(run, mode).is_some();
    Mode::ALL.into_iter().filter(|mode| runs.iter().any(|run| has(run, *mode))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor, token};

    #[test]
    fn rows_are_by_depth_and_output_is_the_first_column() {
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
        assert_eq!(grid.columns, ["output", "mlp"]);
        let labels: Vec<_> = grid.rows.keys().map(Place::label).collect();
        assert_eq!(labels, ["embedding", "layer 2", "layer 10", "final norm", "logits"]);
        assert_eq!(grid.worst_by_place()[&Place::Layer(2)], f64::INFINITY);
        let patched = Grid::new(&run, Mode::Patched).unwrap();
        assert_eq!(patched.columns, ["logits"]);
        assert_eq!(patched.rows.keys().next(), Some(&Place::Layer(2)));
        assert!(Grid::new(&run, Mode::Isolated).is_none());
        assert_eq!(modes(&[run]), [Mode::Accumulated, Mode::Patched]);
    }

    #[test]
    fn generated_ids_are_the_last_row_of_whole_runs() {
        let mut run = sample::run("flex", Status::Fail, vec![tensor(Mode::Isolated, "logits", Some(0.1))]);
        run.verdicts.tokens = vec![token(0, 1, 1), token(1, 2, 3)];
        assert_eq!(modes(std::slice::from_ref(&run)), [Mode::Accumulated, Mode::Isolated]);
        let grid = Grid::new(&run, Mode::Accumulated).unwrap();
        assert!(matches!(grid.rows[&IDS][..], [Some(Cell::Ids(tokens))] if wrong_ids(tokens) == 1));
        assert!(grid.cells().all(Cell::fails) && grid.worst_by_place().is_empty());
        assert!(Grid::new(&run, Mode::Isolated).unwrap().cells().all(|cell| !cell.fails()));
        let outputs = ["logits", "step_logits"].map(|name| tensor(Mode::Accumulated, name, Some(0.1)));
        run.verdicts.tensors.extend(outputs);
        let grid = Grid::new(&run, Mode::Accumulated).unwrap();
        let labels: Vec<_> = grid.rows.keys().map(Place::label).collect();
        assert_eq!(labels, ["logits", "step logits", "generated ids"]);
        // A report may have them among its tensors, too.
        run.verdicts.tensors.insert(0, tensor(Mode::Accumulated, GENERATED_IDS, None));
        let again = Grid::new(&run, Mode::Accumulated).unwrap();
        assert!(matches!(again.rows[&IDS][..], [Some(Cell::Ids(_))]) && again.rows.len() == 3);
        assert!(tensors(&run).all(|tensor| tensor.verdict.name != GENERATED_IDS));
    }
}
