//! One run in one mode as a table.

use maud::{Markup, html};
use qwen3_trace::{LayerVerdict, Mode};

use crate::html::grid::Grid;
use crate::html::text::{finite, number, ratio};
use crate::{RunResult, measure};

/// Upper ends of the classes within the limit, half a decade each: `c0` to `c5`.
const COLD: [f64; 6] = [0.003_162, 0.01, 0.031_62, 0.1, 0.3162, 1.0];
/// Upper ends of the classes beyond it: `h0` to `h4`; what is not finite is `hx`.
const HOT: [f64; 5] = [3.162, 10.0, 100.0, 1e4, f64::INFINITY];
/// From so many rows on the table scrolls by itself, under its head.
const TALL: usize = 40;

/// The table, in a region of its own that scrolls and has the Tab key's one stop.
pub fn render(grid: &Grid, run: &RunResult, mode: Mode) -> Markup {
    // A patched error is of the logits: no tensor diverges there.
    let first = run.diagnosis.first_divergence.as_ref().filter(|_| mode != Mode::Patched);
    let is_first = |tensor: &LayerVerdict| first.is_some_and(|first| first.tensor == tensor.verdict.name);
    let width = 9 + 6 * grid.columns.len();
    let label = format!("{}, {mode}: error over limit", run.label);
    html! {
        div.scroll.tall[grid.rows.len() > TALL] role="region" tabindex="0" aria-label=(label) {
            table.grid style={ "max-width:" (width) "rem" } {
                caption.sr { (label) }
                (head(grid))
                tbody {
                    @for (place, cells) in &grid.rows {
                        tr {
                            th scope="row" { (place.label()) }
                            @for tensor in cells {
                                @if let Some(tensor) = tensor { (cell(tensor, is_first(tensor))) } @else { td {} }
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
            th.v scope="col" rowspan=[rows] {
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
                    @else { th scope="colgroup" colspan=(group.len()) { (group[0].0) } }
                }
            }
            @if nested {
                tr { @for name in columns.iter().filter(|column| !column.0.is_empty()) { (column(name, None)) } }
            }
        }
    }
}

fn derived(grid: &Grid, column: usize) -> bool {
    let mut tensors = grid.rows.values().filter_map(|row| row[column]);
    tensors.any(|tensor| tensor.derived)
}

fn cell(tensor: &LayerVerdict, first: bool) -> Markup {
    let value = measure::ratio(tensor);
    // A verdict that the colour does not show.
    let fails = !tensor.verdict.pass && value <= 1.0;
    html! {
        td class={ (class(value)) @if fails { " fails" } @if first { " first" } } title=(title(tensor)) {
            (ratio(value))
        }
    }
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

/// The class that colours a ratio, by its logarithm.
pub fn class(ratio: f64) -> String {
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
    use crate::sample::{self, tensor};

    #[test]
    fn colours_change_sides_at_one() {
        assert_eq!(class(0.0), "c0");
        assert_eq!(class(0.2), "c4");
        assert_eq!(class(1.0), "c5");
        assert_eq!(class(1.000_1), "h0");
        assert_eq!(class(5e6), "h4");
        assert_eq!(class(f64::NAN), "hx");
        assert_eq!(class(f64::INFINITY), "hx");
    }

    #[test]
    fn a_failure_within_the_limit_is_still_marked() {
        let cell = |ratio, pass, first| {
            let mut tensor = tensor(Mode::Isolated, "logits", ratio);
            tensor.verdict.pass = pass;
            cell(&tensor, first).into_string()
        };
        assert!(cell(Some(0.5), false, false).contains("\"c5 fails\""));
        assert!(cell(Some(0.5), true, true).contains("\"c5 first\""));
        assert!(cell(None, false, false).contains("class=\"hx\" title=\"max not finite of"));
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
        assert!(head.contains("colspan=\"2\">self_attn</th>"), "{head}");
        assert_eq!(head.matches("rowspan=\"2\"").count(), 3);
        assert!(head.contains("q_<wbr>rope*"));
    }
}
