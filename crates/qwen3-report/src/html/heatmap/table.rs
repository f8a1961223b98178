//! One run in one mode as a table.

use crate::verify::html::grid::Grid;
use crate::verify::html::text::{esc, finite_field, number_or_dash, ratio};
use crate::verify::view::{Run, Tensor, number};

/// Upper ends of the classes within the limit, half a decade each: `c0` to `c5`.
const COLD: [f64; 6] = [0.003_162, 0.01, 0.031_62, 0.1, 0.3162, 1.0];
/// Upper ends of the classes beyond it: `h0` to `h4`; what is not finite is `hx`.
const HOT: [f64; 5] = [3.162, 10.0, 100.0, 1e4, f64::INFINITY];
/// From so many rows on the table scrolls by itself, under its head.
const TALL: usize = 40;

/// The table, in a region of its own that scrolls and has the Tab key's one stop.
pub fn render(grid: &Grid, run: Run, mode: &str) -> String {
    // A patched error is of the logits: no tensor diverges there.
    let first = run.first_divergence().filter(|_| mode != "patched");
    let mut body = String::new();
    for (place, cells) in &grid.rows {
        body += &format!("<tr><th scope=\"row\">{}</th>", esc(&place.label()));
        for tensor in cells {
            match tensor {
                Some(tensor) => body += &cell(*tensor, first == Some(tensor.name())),
                None => body += "<td></td>",
            }
        }
        body += "</tr>\n";
    }
    let note = match (0..grid.columns.len()).any(|column| derived(grid, column)) {
        true => "<p class=\"quiet\">* derived from the reference's tensors, not one of them</p>\n",
        false => "",
    };
    let tall = if grid.rows.len() > TALL { " tall" } else { "" };
    let label = esc(&format!("{}, {mode}: error over limit", run.label()));
    format!(
        "<div class=\"scroll{tall}\" role=\"region\" tabindex=\"0\" aria-label=\"{label}\"><table class=\"grid\" style=\"max-width:{}rem\">\
         <caption class=\"sr\">{label}</caption>\n{}<tbody>\n{body}</tbody></table></div>\n{note}",
        9 + 6 * grid.columns.len(),
        head(grid)
    )
}

/// Two rows where tensors belong to a module such as `self_attn`, else one.
fn head(grid: &Grid) -> String {
    let split = |name: &&'_ str| match name.rsplit_once('.') {
        Some((module, name)) => (module.to_owned(), name.to_owned()),
        None => (String::new(), (*name).to_owned()),
    };
    let parts: Vec<(String, String)> = grid.columns.iter().map(split).collect();
    let nested = parts.iter().any(|(module, _)| !module.is_empty());
    let both = if nested { " rowspan=\"2\"" } else { "" };
    let (mut upper, mut lower) = (format!("<td{both}></td>"), String::new());
    let mut column = 0;
    for group in parts.chunk_by(|a, b| a.0 == b.0) {
        let module = &group[0].0;
        if !module.is_empty() {
            upper += &format!(
                "<th scope=\"colgroup\" colspan=\"{}\">{}</th>",
                group.len(),
                esc(module)
            );
        }
        for (_, name) in group {
            let mark = if derived(grid, column) { "*" } else { "" };
            // A long name breaks after an underscore.
            let name = esc(name).replace('_', "_<wbr>");
            let (row, rows) = match module.is_empty() {
                true => (&mut upper, both),
                false => (&mut lower, ""),
            };
            *row += &format!("<th scope=\"col\" class=\"v\"{rows}><span>{name}{mark}</span></th>");
            column += 1;
        }
    }
    match nested {
        true => format!("<thead><tr>{upper}</tr>\n<tr>{lower}</tr></thead>\n"),
        false => format!("<thead><tr>{upper}</tr></thead>\n"),
    }
}

fn derived(grid: &Grid, column: usize) -> bool {
    let tensors = grid.rows.values().filter_map(|row| row[column]);
    let derived = |tensor: Tensor| tensor.0.get("derived")?.as_bool();
    tensors.filter_map(derived).any(|derived| derived)
}

fn cell(tensor: Tensor, first: bool) -> String {
    let value = tensor.ratio();
    let mut class = value.map_or("cn".into(), class);
    // A verdict that the colour does not show.
    if !tensor.pass() && !class.starts_with('h') {
        class += " fails";
    }
    if first {
        class += " first";
    }
    if class.contains(' ') {
        class = format!("\"{class}\"");
    }
    let shown = esc(&value.map_or("?".into(), ratio));
    format!("<td class={class} title=\"{}\">{shown}</td>", title(tensor))
}

/// The numbers behind a cell.
fn title(tensor: Tensor) -> String {
    let json = tensor.0;
    let limit = |key| number_or_dash(number(json, key));
    let mut title = format!(
        "max {} of {}, rms {} of {}",
        finite_field(json, "max_abs"),
        limit("limit"),
        finite_field(json, "rms"),
        limit("limit_rms")
    );
    if !tensor.pass() {
        title += &format!(
            "; {} instead of {}",
            finite_field(json, "observed"),
            finite_field(json, "expected")
        );
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
    use serde_json::json;

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
        let cell = |value, first| cell(Tensor(&value), first);
        assert!(cell(json!({"ratio": 0.5, "pass": false}), false).contains("\"c5 fails\""));
        assert!(cell(json!({"ratio": 0.5, "pass": true}), true).contains("\"c5 first\""));
        assert!(cell(json!({"pass": true}), false).contains("class=cn"));
        let nan = json!({"pass": false, "max_abs": null, "ratio": null});
        assert!(cell(nan, false).contains("class=hx title=\"max not finite of"));
    }

    #[test]
    fn modules_head_their_columns() {
        let tensor = |name: &str| json!({"mode": "isolated", "name": name, "derived": name.ends_with("rope")});
        let names = [
            "layer_00.input_norm",
            "layer_00.self_attn.q_proj",
            "layer_00.self_attn.q_rope",
            "layer_00_output",
        ];
        let run = json!({"tensors": names.map(tensor)});
        let head = head(&Grid::new(Run(&run), "isolated").unwrap());
        assert!(head.contains("colspan=\"2\">self_attn</th>"), "{head}");
        assert_eq!(head.matches("rowspan=\"2\"").count(), 3);
        assert!(head.contains("q_<wbr>rope*"));
    }
}
