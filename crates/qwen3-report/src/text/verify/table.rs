//! The numbers of a run: a row for each layer and for what is outside the layers, and what they come to.

use std::io::{Result, Write};

use qwen3_trace::names::layer_of;
use qwen3_trace::{LayerVerdict, Mode, TokenVerdict, Verdicts};

use super::{Screen, number, write_timings};
use crate::RunResult;
use crate::text::screen::shortened;

/// The column of the rows' names: `final_norm_output` fits.
const NAME: usize = 17;
/// The column of a mode: `accumulated` fits.
const CELL: usize = 11;
/// What is inside a layer has a column where it can be this wide.
const INSIDE: usize = 16;

/// Writes the table of a run and what it comes to; `fixed` are its limits fixed thresholds.
pub fn write_numbers(out: &mut Screen<impl Write>, run: &RunResult, fixed: bool) -> Result<()> {
    let verdicts = &run.verdicts;
    writeln!(out)?;
    out.paragraph(0, &format!("{}: error over limit; at most 1 passes", run.label))?;
    let rows = rows(verdicts);
    let shown: Vec<&Row> = rows.iter().filter(|row| !out.look().fail_only || row.fails()).collect();
    if shown.is_empty() && !rows.is_empty() {
        out.paragraph(2, &format!("every row passes: {} of {0}", rows.len()))?;
    } else {
        write_table(out, &shown, inside_mode(verdicts))?;
    }
    write_timings(out, &run.timings)?;
    write_sensitivity(out, verdicts)?;
    write_tokens(out, verdicts)?;
    write_failures(out, verdicts, fixed)?;
    run.compared().iter().try_for_each(|line| out.paragraph(2, line))
}

/// A layer, or a tensor outside the layers, in the modes that it was judged in.
struct Row<'a> {
    name: String,
    place: (u8, usize),
    cells: [Option<&'a LayerVerdict>; 3],
    /// The worst tensor inside the layer: given the right input where the run has that.
    inside: Option<&'a LayerVerdict>,
}

impl Row<'_> {
    fn fails(&self) -> bool {
        let tensors = self.cells.iter().flatten().chain(&self.inside);
        tensors.into_iter().any(|tensor| !tensor.verdict.pass)
    }
}

/// The rows in the model's order.
fn rows(verdicts: &Verdicts) -> Vec<Row<'_>> {
    let inside_mode = inside_mode(verdicts);
    let mut rows: Vec<Row> = Vec::new();
    for tensor in &verdicts.tensors {
        let name = tensor.verdict.name.as_str();
        let (row, place) = match (tensor.layer, name) {
            (Some(layer), _) => (format!("layer {layer}"), (1, layer)),
            (None, "embedding_output") => (name.into(), (0, 0)),
            (None, _) => {
                let end = ["final_norm_output", "logits", "step_logits", "generated_ids"];
                let place = end.iter().position(|known| *known == name).unwrap_or(end.len());
                (name.into(), (2, place))
            }
        };
        let row = match rows.iter().position(|known| known.name == row) {
            Some(known) => &mut rows[known],
            None => {
                rows.push(Row { name: row, place, cells: [None; 3], inside: None });
                rows.last_mut().expect("just pushed")
            }
        };
        let inside = layer_of(name).is_some() && name.contains('.');
        if !inside {
            let mode = Mode::ALL.iter().position(|mode| *mode == tensor.mode).expect("all modes are listed");
            row.cells[mode] = row.cells[mode].or(Some(tensor));
        } else if tensor.mode == inside_mode {
            row.inside = Some(row.inside.map_or(tensor, |other| crate::measure::worse(other, tensor)));
        }
    }
    rows.sort_by_key(|row| row.place);
    rows
}

/// The mode whose tensors inside layers are shown.
fn inside_mode(verdicts: &Verdicts) -> Mode {
    let isolated = verdicts.of(Mode::Isolated).next().is_some();
    if isolated { Mode::Isolated } else { Mode::Accumulated }
}

fn write_table(out: &mut Screen<impl Write>, rows: &[&Row], inside_mode: Mode) -> Result<()> {
    let modes = Mode::ALL.iter().enumerate();
    let modes: Vec<_> = modes.filter(|(at, _)| rows.iter().any(|row| row.cells[*at].is_some())).collect();
    let left = out.look().width.saturating_sub(2 + NAME + (CELL + 1) * modes.len() + 2);
    let with_inside = left >= INSIDE && rows.iter().any(|row| row.inside.is_some());
    let mut head = format!("  {:<NAME$}", "");
    for (_, mode) in &modes {
        head += &format!(" {:>CELL$}", mode.to_string());
    }
    if with_inside {
        head += &format!("  {}", shortened(&format!("worst inside, {inside_mode}"), left));
    }
    writeln!(out, "{}", head.trim_end())?;
    for row in rows {
        let mut line = format!("  {:<NAME$}", shortened(&row.name, NAME));
        for (at, _) in &modes {
            line += &format!(" {:>CELL$}", row.cells[*at].map_or("-".into(), ratio_text));
        }
        if let Some(worst) = row.inside.filter(|_| with_inside) {
            let ratio = ratio_text(worst);
            let name = worst.verdict.name.split_once('.').map_or("", |(_, tap)| tap);
            let name = shortened(name, left.saturating_sub(ratio.len() + 1));
            line += &format!("  {ratio} {name}");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A ratio in a column, with a mark beside a failure; ids without logits have none.
fn ratio_text(tensor: &LayerVerdict) -> String {
    let mark = if tensor.verdict.pass { "" } else { " *" };
    match tensor.ratio {
        Some(ratio) if ratio < 1000.0 => format!("{ratio:.3}{mark}"),
        Some(ratio) if ratio < 99_999.5 => format!("{ratio:.0}{mark}"),
        Some(ratio) => format!("{ratio:.1e}{mark}"),
        None if tensor.verdict.name == "generated_ids" => {
            format!("{}{mark}", if tensor.verdict.pass { "tie" } else { "wrong" })
        }
        // A dozen columns are too many beside a mark.
        None => "NaN or inf".into(),
    }
}

fn write_tokens(out: &mut Screen<impl Write>, verdicts: &Verdicts) -> Result<()> {
    let tokens = &verdicts.tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let margin = |name, margin: Option<f64>| {
        margin.map_or(String::new(), |margin| format!(", {name} {}", number(Some(margin))))
    };
    let same = tokens.iter().filter(|token| i64::from(token.expected) == token.observed).count();
    let ties = tokens.iter().filter(|token| token.tie).count();
    let ties = if ties == 1 { "1 tie".into() } else { format!("{ties} ties") };
    let smallest = tokens.iter().filter_map(|token| token.margin).reduce(f64::min);
    let smallest = margin("smallest margin", smallest);
    out.paragraph(2, &format!("greedy ids: {same} of {} equal, {ties}{smallest}", tokens.len()))?;
    if let Some(token) = verdicts.wrong_token() {
        let [observed, expected] = sides(token);
        let margin = margin("margin", token.margin);
        out.paragraph(2, &format!("{}: {observed} instead of {expected}{margin}", token.place()))?;
    }
    if let Some(logits) = verdicts.find(Mode::Accumulated, "logits") {
        let share = |share| format!("{:.1} %", 100.0 * share);
        let text = format!(
            "logits: KL {} nats, top-1 agreement {}, regret {} nats",
            number(logits.kl_divergence),
            logits.top1_agreement.map_or("-".into(), share),
            number(logits.regret_nats)
        );
        out.paragraph(2, &text)?;
    }
    Ok(())
}

/// The observed and the expected id, with their texts where they are known.
fn sides(token: &TokenVerdict) -> [String; 2] {
    let side = |id: i64, text: &Option<String>| {
        text.as_ref().map_or(id.to_string(), |text| format!("{id} {:?}", text))
    };
    [side(token.observed, &token.observed_text), side(token.expected.into(), &token.expected_text)]
}

/// How small an error the limits would not have let pass: what a pass is worth.
fn write_sensitivity(out: &mut Screen<impl Write>, verdicts: &Verdicts) -> Result<()> {
    for mode in [Mode::Accumulated, Mode::Isolated] {
        let layers = verdicts.of(mode).filter(|tensor| tensor.verdict.name.ends_with("_output"));
        let layers = layers.filter(|tensor| tensor.layer.is_some());
        let Some(worst) = layers.filter_map(|tensor| tensor.sensitivity).reduce(f64::max) else {
            continue;
        };
        let logits = verdicts.find(mode, "logits").and_then(|logits| logits.sensitivity);
        let logits = logits.map_or(String::new(), |share| format!(", from {share:.0e} of the logits on"));
        out.paragraph(
            2,
            &format!("seen, {mode}: rms errors from {worst:.0e} of a layer's output on{logits}"),
        )?;
    }
    Ok(())
}

/// The worst element of the first tensor that fails in each mode; ids have a line of their own.
fn write_failures(out: &mut Screen<impl Write>, verdicts: &Verdicts, fixed: bool) -> Result<()> {
    for mode in Mode::ALL {
        let failing = || verdicts.failing(mode).filter(|tensor| tensor.verdict.name != "generated_ids");
        let Some(first) = failing().next() else { continue };
        let verdict = &first.verdict;
        let limit =
            |limit: f64| if fixed { String::new() } else { format!(" (limit {})", number(Some(limit))) };
        let text = format!(
            "{mode}: first beyond its limit: {} ({} in all); worst element {:?}: {} instead of {}, max abs {}{}, rms \
             {}{}",
            verdict.name,
            failing().count(),
            verdict.max_abs_index,
            number(verdict.observed),
            number(verdict.expected),
            number(verdict.max_abs),
            limit(verdict.limit),
            number(verdict.rms),
            limit(verdict.limit_rms)
        );
        out.paragraph(2, &text)?;
    }
    Ok(())
}
