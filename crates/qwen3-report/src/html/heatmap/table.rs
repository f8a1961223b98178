//! One run in one mode as a table.

use maud::{Markup, html};
use qwen3_trace::{LayerVerdict, Mode};

use crate::html::grid::{Cell, GENERATED_IDS, Grid, OUTPUT, wrong_ids};
use crate::html::text::{finite, number, ratio};
use crate::html::tokens;
use crate::{RunResult, measure};

/// Upper ends of the classes within the limit, half a decade each: `c0` to `c5`.
const COLD: [f64; 6] = [0.003_162, 0.01, 0.031_62, 0.1, 0.3162, 1.0];
/// Upper ends of the classes beyond it: `h0` to `h4`; what is not finite is `hx`.
const HOT: [f64; 5] = [3.162, 10.0, 100.0, 1e4, f64::INFINITY];

/// So many columns fit on a wide screen, where the head can then stay in sight.
const FITS: usize = 16;

/// The table, in a region of its own that scrolls and has the Tab key's one stop.
pub fn render(grid: &Grid, run: &RunResult, mode: Mode) -> Markup {
    // A patched error is of the logits: no tensor diverges there.
    let first = run.diagnosis.first_divergence.as_ref().filter(|_| mode != Mode::Patched);
    let is_first = |cell: Cell| match (first, cell) {
        (Some(first), Cell::Tensor(tensor)) => first.tensor == tensor.verdict.name,
        (Some(first), Cell::Ids(_)) => first.tensor == GENERATED_IDS,
        (None, _) => false,
    };
    let width = 9 + 6 * grid.columns.len();
    let label = format!("{}, {mode}: error over limit", run.label);
    html! {
        div.scroll.fits[grid.columns.len() <= FITS] role="region" tabindex="0" aria-label=(label) {
            table.grid style={ "max-width:" (width) "rem" } {
                caption.sr { (label) }
                (head(grid))
                tbody {
                    @for (place, cells) in &grid.rows {
                        tr {
                            th scope="row" { (place.label()) }
                            @for (name, shown) in grid.columns.iter().zip(cells) {
                                @if let Some(shown) = shown { (cell(*shown, name, is_first(*shown))) } @else { td {} }
                            }
                        }
                        "\n"
                    }
                }
            }
        }
        @if (0..grid.columns.len()).any(|column| derived(grid, column)) {
            p.quiet { "* derived from the reference's tensors, not one of them" }
        }
    }
}

/// Two rows where tensors belong to a module such as `self_attn`, else one.
fn head(grid: &Grid) -> Markup {
    let columns = grid.columns.iter().enumerate().map(|(at, column)| {
        let (module, name) = column.rsplit_once('.').unwrap_or(("", column));
        (module, name, derived(grid, at))
    });
    let columns: Vec<(&str, &str, bool)> = columns.collect();
    let nested = columns.iter().any(|(module, ..)| !module.is_empty());
    let rows = nested.then_some("2");
    let column = |(_, name, derived): &(&str, &str, bool), rows| {
        html! {
            th class={ "v" (out(name)) } scope="col" rowspan=[rows] {
                span {
                    // A long name breaks after an underscore.
                    @for part in name.split_inclusive('_') { (part) @if part.ends_with('_') { wbr; } }
                    @if *derived { "*" }
                }
            }
        }
    };
    html! {
        thead {
            tr {
                td rowspan=[rows] {}
                @for group in columns.chunk_by(|a, b| a.0 == b.0) {
                    @if group[0].0.is_empty() { @for name in group { (column(name, rows)) } }
                    @else { th scope="colgroup" colspan=(group.len()) { span { (group[0].0) } } }
                }
            }
            @if nested {
                tr { @for name in columns.iter().filter(|column| !column.0.is_empty()) { (column(name, None)) } }
            }
        }
    }
}

fn derived(grid: &Grid, column: usize) -> bool {
    let mut tensors = grid.rows.values().filter_map(|row| row[column]?.tensor());
    tensors.any(|tensor| tensor.derived)
}

/// A gap tells what a layer gives from what is inside it.
fn out(column: &str) -> &'static str {
    if column == OUTPUT { " out" } else { "" }
}

fn cell(cell: Cell, column: &str, first: bool) -> Markup {
    let (kind, shown, title) = match cell {
        Cell::Tensor(tensor) => ("", ratio(measure::ratio(tensor)), title(tensor)),
        Cell::Ids(tokens) => {
            let shown = match wrong_ids(tokens) {
                0 => "right".into(),
                wrong => format!("{wrong} wrong"),
            };
            ("ids ", shown, tokens::summary(tokens))
        }
    };
    let class = format!("{} {kind}{}{}", out(column), class(cell), if first { " first" } else { "" });
    html! { td class=(class.trim()) title=(title) { (shown) } }
}

/// The numbers behind a cell.
fn title(tensor: &LayerVerdict) -> String {
    let verdict = &tensor.verdict;
    let mut title = format!(
        "max {} of {}, rms {} of {}",
        finite(verdict.max_abs),
        number(verdict.limit),
        finite(verdict.rms),
        number(verdict.limit_rms)
    );
    if !verdict.pass {
        title += &format!("; {} instead of {}", finite(verdict.observed), finite(verdict.expected));
    }
    title
}

/// How bad a cell is: an error over its limit. A wrong id counts as much as what is not finite.
pub fn size(cell: Cell) -> f64 {
    match cell {
        Cell::Tensor(tensor) => measure::ratio(tensor),
        Cell::Ids(_) if cell.fails() => f64::INFINITY,
        Cell::Ids(_) => 0.0,
    }
}

/// The class that colours a cell; one that fails is never coloured as one that passes.
pub fn class(cell: Cell) -> String {
    match cell {
        Cell::Ids(_) if cell.fails() => "h3".into(),
        Cell::Tensor(_) if cell.fails() && size(cell) <= 1.0 => "h0".into(),
        _ => by_ratio(size(cell)),
    }
}

/// The class of a ratio, by its logarithm.
fn by_ratio(ratio: f64) -> String {
    if !ratio.is_finite() {
        "hx".into()
    } else if let Some(index) = COLD.iter().position(|&end| ratio <= end) {
        format!("c{index}")
    } else {
        let index = HOT.iter().position(|&end| ratio <= end);
        format!("h{}", index.expect("the last class has no end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::sample::{self, tensor, token};

    #[test]
    fn colours_change_sides_at_one() {
        assert_eq!(by_ratio(0.0), "c0");
        assert_eq!(by_ratio(0.2), "c4");
        assert_eq!(by_ratio(1.0), "c5");
        assert_eq!(by_ratio(1.000_1), "h0");
        assert_eq!(by_ratio(5e6), "h4");
        assert_eq!(by_ratio(f64::NAN), "hx");
        assert_eq!(by_ratio(f64::INFINITY), "hx");
    }

    #[test]
    fn a_failure_within_the_limit_is_not_coloured_as_a_pass() {
        let cell = |ratio, pass, first| {
            let mut tensor = tensor(Mode::Isolated, "logits", ratio);
            tensor.verdict.pass = pass;
            cell(Cell::Tensor(&tensor), "mlp", first).into_string()
        };
        assert!(cell(Some(0.5), false, false).contains("\"h0\""));
        assert!(cell(Some(0.5), true, true).contains("\"c5 first\""));
        assert!(cell(None, false, false).contains("class=\"hx\" title=\"max not finite of"));
    }

    #[test]
    fn ids_are_right_or_wrong() {
        let cell = |tokens: &[_]| cell(Cell::Ids(tokens), OUTPUT, false).into_string();
        let right = cell(&[token(0, 1, 1)]);
        assert_eq!(right, "<td class=\"out ids c0\" title=\"1 of 1 token as expected\">right</td>");
        let wrong = cell(&[token(0, 1, 1), token(1, 2, 3), token(2, 2, 3)]);
        assert!(wrong.contains("class=\"out ids h3\"") && wrong.ends_with("2 wrong</td>"), "{wrong}");
    }

    #[test]
    fn modules_head_their_columns() {
        let tensors = [
            "layer_00.input_norm",
            "layer_00.self_attn.q_proj",
            "layer_00.self_attn.q_rope",
            "layer_00_output",
        ];
        let tensors = tensors.map(|name| LayerVerdict {
            derived: name.ends_with("rope"),
            ..tensor(Mode::Isolated, name, Some(0.1))
        });
        let run = sample::run("flex", Status::Pass, tensors.into());
        let head = head(&Grid::new(&run, Mode::Isolated).unwrap()).into_string();
        assert!(head.contains("colspan=\"2\"><span>self_attn</span></th>"), "{head}");
        assert_eq!(head.matches("rowspan=\"2\"").count(), 3);
        assert!(head.contains("q_<wbr>rope*"));
    }
}
