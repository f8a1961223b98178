//! Layer by tensor: the error over its limit as a colour and a number.

mod table;

use super::grid::{Grid, modes};
use super::text::{chip, count, esc, ratio};
use crate::verify::view::{Run, text};

/// The section's body; `None` when no run has a tensor.
pub fn section(runs: &[Run]) -> Option<String> {
    let modes = modes(runs);
    if modes.is_empty() {
        return None;
    }
    let mut out = String::from(
        "<p class=\"lead\">Each number is an error over its limit: the worse of the largest and of the rms error.</p>\n",
    );
    out += &tabs(&modes);
    out += &legend();
    // The first run that fails is what one opens the page for; when none does, the first with tensors.
    let fails = |run: &Run| run.tensors().any(|tensor| !tensor.pass());
    let compared = |run: &Run| run.tensors().next().is_some();
    let opened = runs.iter().position(fails);
    let opened = opened.or_else(|| runs.iter().position(compared));
    for (index, &run) in runs.iter().enumerate() {
        let open = if Some(index) == opened { " open" } else { "" };
        out += &format!(
            "<details class=\"card heat\"{open}><summary><b>{}</b> {} <span class=\"quiet\">{}</span>{}</summary>\n",
            esc(&run.label()),
            chip(run.status()),
            summary(run),
            strip(run, &modes),
        );
        if !compared(&run) {
            let reason = text(run.0, "reason").unwrap_or("The report does not say why.");
            out += &format!("<p class=\"quiet\">{}</p></details>\n", esc(reason));
            continue;
        }
        for (index, mode) in modes.iter().enumerate() {
            let table = match Grid::new(run, mode) {
                Some(grid) => table::render(&grid, run, mode),
                None => format!(
                    "<p class=\"quiet\">Nothing was compared as {}.</p>",
                    esc(mode)
                ),
            };
            out += &format!("<div class=\"mode m{index}\">{table}</div>\n");
        }
        out += "</details>\n";
    }
    Some(out)
}

/// Radio buttons: they work without scripts, and with the arrow keys.
fn tabs(modes: &[&str]) -> String {
    let (mut buttons, mut rules) = (String::new(), String::new());
    for (index, mode) in modes.iter().enumerate() {
        let what = match *mode {
            "accumulated" => "each layer on the output of the one before",
            "isolated" => "each layer on the reference's own input",
            "patched" => "the reference put in after a layer, the rest computed",
            _ => "",
        };
        let checked = if index == 0 { " checked" } else { "" };
        buttons += &format!(
            "<input type=\"radio\" name=\"mode\" id=\"mode-{index}\"{checked}><label for=\"mode-{index}\">{}<small>{what}</small></label>",
            esc(mode)
        );
        rules += &format!(
            "#heatmap:has(#mode-{index}:checked) :is(.mode,.strip):not(.m{index}){{display:none}}"
        );
    }
    format!(
        "<fieldset class=\"tabs\"><legend>Mode</legend>{buttons}</fieldset>\n<style>{rules}</style>\n"
    )
}

fn legend() -> String {
    let mut out = String::from("<p class=\"legend\"><span>within the limit, up to</span>");
    for (index, name) in ["0.003", "0.01", "0.03", "0.1", "0.3", "1"]
        .iter()
        .enumerate()
    {
        out += &format!("<span class=\"c{index}\">{name}</span>");
    }
    out += "<span class=\"gap\">beyond it, up to</span>";
    for (index, name) in ["3", "10", "100", "10\u{2074}", "more"].iter().enumerate() {
        out += &format!("<span class=\"h{index}\">{name}</span>");
    }
    out + "<span class=\"hx\">not finite</span><span class=\"first-mark\">first divergence</span></p>\n"
}

/// What a run's grids come to, in HTML.
fn summary(run: Run) -> String {
    let total = run.tensors().count();
    let beyond = run.tensors().filter(|tensor| !tensor.pass()).count();
    let Some(worst) = run.worst() else {
        return "no tensor was compared".into();
    };
    format!(
        "{beyond} of {} beyond the limit; worst {} \u{d7} limit: <code>{}</code>, {}",
        count(total, "tensor"),
        esc(&worst.ratio().map_or("?".into(), ratio)),
        esc(&worst.label()),
        esc(worst.mode()),
    )
}

/// The worst at each depth as a row of colours, so that folded runs can be told apart too.
fn strip(run: Run, modes: &[&str]) -> String {
    let mut out = String::new();
    for (index, mode) in modes.iter().enumerate() {
        let Some(grid) = Grid::new(run, mode) else {
            continue;
        };
        let cells = grid.worst_by_place().into_values();
        let cells = cells.map(|ratio| format!("<i class={}></i>", table::class(ratio)));
        out += &format!(
            "<span class=\"strip m{index}\" aria-hidden=\"true\">{}</span>",
            cells.collect::<String>()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_run_that_fails_is_open() {
        let run = |pass| json!({"backend": "flex", "tensors": [{"mode": "isolated", "name": "logits", "ratio": 0.5, "pass": pass}]});
        let (passes, fails, none) = (run(true), run(false), json!({}));
        let opened = |runs: &[Run]| {
            let html = section(runs).unwrap();
            let folds = html.split("<details").skip(1);
            folds
                .map(|fold| fold.starts_with(" class=\"card heat\" open"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            opened(&[Run(&passes), Run(&fails), Run(&fails)]),
            [false, true, false]
        );
        assert_eq!(opened(&[Run(&none), Run(&passes)]), [false, true]);
        assert!(section(&[Run(&none)]).is_none());
        let crash = json!({"status": "crash", "reason": "signal <11>"});
        let html = section(&[Run(&passes), Run(&crash)]).unwrap();
        assert!(html.contains("signal &lt;11&gt;") && html.matches("<table").count() == 1);
    }
}
