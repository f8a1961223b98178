//! A run's tensors as rows and columns: how deep in the model, and which tensor of a layer.

use std::collections::BTreeMap;

use crate::verify::view::{Run, Tensor};

/// How deep in the model, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// Before the first layer; a rank and the tensor's name.
    Before(u8, &'a str),
    /// A layer, counted from zero.
    Layer(i64),
    /// After the last layer; a rank and the tensor's name.
    After(u8, &'a str),
}

impl<'a> Place<'a> {
    /// Where the tensor belongs.
    pub fn of(tensor: Tensor<'a>) -> Self {
        match (tensor.layer(), tensor.name()) {
            (Some(layer), _) => Self::Layer(layer),
            (None, name) if name.starts_with("embedding") => Self::Before(0, name),
            (None, name) if name.starts_with("rope") => Self::Before(1, name),
            (None, name) if name.starts_with("final_norm") => Self::After(0, name),
            (None, name) if name.starts_with("logits") => Self::After(1, name),
            (None, name) => Self::After(2, name),
        }
    }

    /// `embedding`, `layer 3`, `final norm`, `logits`; not escaped.
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
pub fn column<'a>(tensor: Tensor<'a>) -> &'a str {
    let name = tensor.name();
    match name.strip_prefix("layer_") {
        Some(rest) => rest
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start_matches(['.', '_']),
        None if tensor.layer().is_some() => name,
        None => "output",
    }
}

/// One run in one mode.
#[derive(Debug)]
pub struct Grid<'a> {
    /// The columns, in the order of computation; `output` is the last.
    pub columns: Vec<&'a str>,
    /// The rows, by depth; a cell for each column, empty where nothing was compared.
    pub rows: BTreeMap<Place<'a>, Vec<Option<Tensor<'a>>>>,
}

impl<'a> Grid<'a> {
    /// Lays out the run's tensors of one mode; `None` when there are none.
    ///
    /// Of several tensors in one cell the worst is shown.
    pub fn new(run: Run<'a>, mode: &str) -> Option<Self> {
        let tensors: Vec<Tensor> = run
            .tensors()
            .filter(|tensor| tensor.mode() == mode)
            .collect();
        let mut columns: Vec<&str> = Vec::new();
        for &tensor in &tensors {
            let column = column(tensor);
            if column != "output" && !columns.contains(&column) {
                columns.push(column);
            }
        }
        if tensors.iter().any(|&tensor| column(tensor) == "output") {
            columns.push("output");
        }
        let mut rows: BTreeMap<Place, Vec<Option<Tensor>>> = BTreeMap::new();
        for &tensor in &tensors {
            let row = rows
                .entry(Place::of(tensor))
                .or_insert_with(|| vec![None; columns.len()]);
            let cell = columns.iter().position(|&name| name == column(tensor));
            let cell = &mut row[cell.expect("each tensor's column is listed")];
            *cell = Some(cell.map_or(tensor, |other| worse(other, tensor)));
        }
        (!tensors.is_empty()).then_some(Self { columns, rows })
    }

    /// The worst error over limit at each depth; infinite when a tensor is not finite.
    pub fn worst_by_place(&self) -> BTreeMap<Place<'a>, f64> {
        let worst = |row: &Vec<Option<Tensor>>| {
            let ratios = row.iter().flatten().filter_map(Tensor::ratio);
            ratios.reduce(f64::max)
        };
        self.rows
            .iter()
            .filter_map(|(&place, row)| Some((place, worst(row)?)))
            .collect()
    }
}

fn worse<'a>(a: Tensor<'a>, b: Tensor<'a>) -> Tensor<'a> {
    let key = |tensor: Tensor| (!tensor.pass(), tensor.ratio().unwrap_or(-1.0));
    let ((a_fails, a_ratio), (b_fails, b_ratio)) = (key(a), key(b));
    match b_fails
        .cmp(&a_fails)
        .then(b_ratio.total_cmp(&a_ratio))
        .is_gt()
    {
        true => b,
        false => a,
    }
}

/// The modes that any run has: the three known ones first, in their order, then others as they come.
pub fn modes<'a>(runs: &[Run<'a>]) -> Vec<&'a str> {
    let mut modes: Vec<&str> = vec!["accumulated", "isolated", "patched"];
    let mut found = Vec::new();
    for tensor in runs.iter().flat_map(Run::tensors) {
        if !found.contains(&tensor.mode()) {
            found.push(tensor.mode());
        }
        if !modes.contains(&tensor.mode()) {
            modes.push(tensor.mode());
        }
    }
    modes.retain(|mode| found.contains(mode));
    modes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_by_depth_and_output_is_the_last_column() {
        let run = json!({"tensors": [
            {"mode": "accumulated", "name": "logits", "pass": true, "ratio": 0.1},
            {"mode": "accumulated", "name": "embedding_output", "pass": true, "ratio": 0.1},
            {"mode": "accumulated", "name": "layer_10.mlp", "pass": true, "ratio": 0.1},
            {"mode": "accumulated", "name": "layer_02.mlp", "pass": true, "ratio": 0.1},
            {"mode": "accumulated", "name": "layer_02_output", "pass": true, "ratio": 0.3},
            {"mode": "accumulated", "name": "layer_02_output", "pass": false, "ratio": null},
            {"mode": "accumulated", "name": "final_norm_output", "pass": true, "ratio": 0.1},
            {"mode": "patched", "name": "logits", "layer": 2, "pass": true, "ratio": 0.1},
        ]});
        let grid = Grid::new(Run(&run), "accumulated").unwrap();
        assert_eq!(grid.columns, ["mlp", "output"]);
        let labels: Vec<_> = grid.rows.keys().map(Place::label).collect();
        assert_eq!(
            labels,
            ["embedding", "layer 2", "layer 10", "final norm", "logits"]
        );
        assert_eq!(grid.worst_by_place()[&Place::Layer(2)], f64::INFINITY);
        let patched = Grid::new(Run(&run), "patched").unwrap();
        assert_eq!(patched.columns, ["logits"]);
        assert_eq!(patched.rows.keys().next(), Some(&Place::Layer(2)));
        assert!(Grid::new(Run(&run), "isolated").is_none());
        assert_eq!(modes(&[Run(&run)]), ["accumulated", "patched"]);
    }
}
