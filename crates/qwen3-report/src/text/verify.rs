//! A verification as text.

use std::io::{Result, Write};

use qwen3_blame::Diagnosis;
use qwen3_trace::names::layer_of;
use qwen3_trace::{LayerVerdict, Mode, Verdicts};

use super::screen::Screen;
use super::{counts, write_status};
use crate::{Memory, RunResult, Timing, VerifyReport};

/// Writes the whole report.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_verify(report: &VerifyReport, out: &mut impl Write, colour: bool) -> Result<()> {
    let out = &mut Screen::new(out, colour);
    writeln!(out, "model      {}", report.model_path)?;
    if let Some(adapter) = &report.adapter {
        writeln!(out, "adapter    {adapter}")?;
    }
    writeln!(out, "reference  {}", report.reference.as_deref().unwrap_or("none"))?;
    if let Some(observed) = &report.observed {
        writeln!(out, "observed   {observed}")?;
    }
    writeln!(out, "input      {}", report.test_input)?;
    writeln!(out, "limits     {}", report.limits)?;
    for run in &report.runs {
        write_run(out, run)?;
    }
    if let Some(first) = report.pairwise.first() {
        writeln!(out, "\nbackend x backend, {}", first.tensor)?;
    }
    for pair in &report.pairwise {
        let (max_abs, relative) = (number(pair.max_abs), number(pair.relative));
        writeln!(out, "  {:<28} {:<28} max abs {max_abs}  relative {relative}", pair.a, pair.b)?;
    }
    if let Some(consensus) = &report.consensus {
        writeln!(out, "  {}", consensus.explanation)?;
    }
    write_memory(out, &report.memory)?;
    writeln!(
        out,
        "\n{} of {} layer results pass; {}",
        report.layers_passed,
        report.total_layers_tested,
        counts(report.runs.iter().map(|run| run.status))
    )
}

fn write_run(out: &mut Screen<impl Write>, run: &RunResult) -> Result<()> {
    let switches = run.switches.map_or(String::new(), |switches| format!(" ({switches})"));
    let peak = run.peak_rss_mb.map_or(String::new(), |mb| format!(", {mb:.0} MiB"));
    write!(out, "\n{}{switches}: ", run.label)?;
    write_status(out, run.status, 0)?;
    writeln!(out, " in {:.1} s{peak}", run.elapsed_ms / 1e3)?;
    if let Some(slowest) = run.timings.iter().max_by(|a, b| a.run_ms.total_cmp(&b.run_ms)) {
        let sum = |of: fn(&Timing) -> f64| run.timings.iter().map(of).sum::<f64>() / 1e3;
        writeln!(
            out,
            "  loading {:.1} s, computing {:.1} s, {} longest with {:.0} ms",
            sum(|timing| timing.load_ms),
            sum(|timing| timing.run_ms),
            slowest.part,
            slowest.run_ms
        )?;
    }
    if let Some(reason) = &run.reason {
        writeln!(out, "  {reason}")?;
    }
    if run.verdicts.is_empty() {
        return Ok(());
    }
    writeln!(out, "  error over limit, the worse of largest and rms; at most 1 passes")?;
    writeln!(
        out,
        "  {:<20} {:>12} {:>12} {:>12}   worst inside, isolated",
        "", "accumulated", "isolated", "patched"
    )?;
    for (name, key) in rows(&run.verdicts) {
        write_row(out, &run.verdicts, &name, &key)?;
    }
    write_sensitivity(out, &run.verdicts)?;
    write_tokens(out, &run.verdicts)?;
    write_failures(out, &run.verdicts)?;
    if let Some(not_compared) = run.not_compared() {
        writeln!(out, "  {not_compared}")?;
    }
    write_diagnosis(out, &run.diagnosis)
}

/// The rows of the table and the keys of their outputs.
fn rows(verdicts: &Verdicts) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for tensor in verdicts.tensors.iter().filter(|tensor| tensor.mode != Mode::Patched) {
        let name = &tensor.verdict.name;
        let row = match tensor.layer {
            Some(layer) => (format!("layer {layer}"), format!("layer_{layer:02}_output")),
            None => (name.clone(), name.clone()),
        };
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    // Modes come one after the other; the model's order is wanted.
    let place = |key: &str| match key {
        "embedding_output" => (0, 0),
        "final_norm_output" => (2, 0),
        "logits" => (2, 1),
        "step_logits" => (2, 2),
        key => (1, layer_of(key).unwrap_or(0)),
    };
    rows.sort_by_key(|(_, key)| place(key));
    rows
}

fn write_row(out: &mut impl Write, verdicts: &Verdicts, name: &str, key: &str) -> Result<()> {
    let layer = layer_of(key);
    let in_layer = |tensor: &&LayerVerdict| layer.is_some() && tensor.layer == layer;
    let patched = verdicts.of(Mode::Patched).find(in_layer);
    let inside = verdicts.of(Mode::Isolated).filter(in_layer);
    let inside = inside.filter_map(|tensor| Some((tensor, tensor.verdict.name.split_once('.')?.1)));
    let ratio = |tensor: &LayerVerdict| tensor.ratio.unwrap_or(f64::INFINITY);
    let worst = inside.max_by(|a, b| ratio(a.0).total_cmp(&ratio(b.0)));
    let worst = worst.map_or(String::new(), |(tensor, tap)| format!("{} {tap}", ratio_text(tensor)));
    let shown = |tensor: Option<&LayerVerdict>| tensor.map_or("-".into(), ratio_text);
    writeln!(
        out,
        "  {name:<20} {:>12} {:>12} {:>12}   {worst}",
        shown(verdicts.find(Mode::Accumulated, key)),
        shown(verdicts.find(Mode::Isolated, key)),
        shown(patched)
    )
}

fn ratio_text(tensor: &LayerVerdict) -> String {
    let mark = if tensor.verdict.pass { "" } else { " *" };
    match tensor.ratio {
        Some(ratio) if ratio < 1000.0 => format!("{ratio:.3}{mark}"),
        Some(ratio) => format!("{ratio:.1e}{mark}"),
        None => format!("not finite{mark}"),
    }
}

fn write_tokens(out: &mut impl Write, verdicts: &Verdicts) -> Result<()> {
    let tokens = &verdicts.tokens;
    if tokens.is_empty() {
        return Ok(());
    }
    let margin =
        |name, margin: Option<f64>| margin.map_or(String::new(), |margin| format!(", {name} {margin:.3e}"));
    let same = tokens.iter().filter(|token| i64::from(token.expected) == token.observed).count();
    let ties = tokens.iter().filter(|token| token.tie).count();
    let smallest = tokens.iter().filter_map(|token| token.margin).reduce(f64::min);
    let smallest = margin("smallest margin", smallest);
    writeln!(out, "  greedy ids: {same} of {} equal, {ties} ties{smallest}", tokens.len())?;
    if let Some(logits) = verdicts.find(Mode::Accumulated, "logits") {
        let share = |share| format!("{:.1} %", 100.0 * share);
        writeln!(
            out,
            "  logits: KL {} nats, top-1 agreement {}, regret {} nats",
            number(logits.kl_divergence),
            logits.top1_agreement.map_or("-".into(), share),
            number(logits.regret_nats)
        )?;
    }
    if let Some(token) = verdicts.wrong_token() {
        writeln!(
            out,
            "  first wrong id: step {} of row {}: {} instead of {}{}",
            token.step,
            token.row,
            token.observed,
            token.expected,
            margin("margin", token.margin)
        )?;
    }
    Ok(())
}

/// How small an error the limits would not have let pass: what a pass is worth.
fn write_sensitivity(out: &mut impl Write, verdicts: &Verdicts) -> Result<()> {
    for mode in [Mode::Accumulated, Mode::Isolated] {
        let layers = verdicts.of(mode).filter(|tensor| tensor.verdict.name.ends_with("_output"));
        let layers = layers.filter(|tensor| tensor.layer.is_some());
        let Some(worst) = layers.filter_map(|tensor| tensor.sensitivity).reduce(f64::max) else {
            continue;
        };
        let logits = verdicts.find(mode, "logits").and_then(|logits| logits.sensitivity);
        let logits = logits.map_or(String::new(), |share| format!(", from {share:.0e} of the logits on"));
        writeln!(out, "  seen, {mode}: rms errors from {worst:.0e} of a layer's output on{logits}")?;
    }
    Ok(())
}

/// The worst element of the first tensor that fails in each mode.
fn write_failures(out: &mut impl Write, verdicts: &Verdicts) -> Result<()> {
    for mode in Mode::ALL {
        let Some(first) = verdicts.failing(mode).next() else { continue };
        let verdict = &first.verdict;
        writeln!(
            out,
            "  {mode}: first beyond its limit: {} ({} in all); worst element {:?}: {} instead of {}, \
             max abs {} (limit {:.3e}), rms {} (limit {:.3e})",
            verdict.name,
            verdicts.failing(mode).count(),
            verdict.max_abs_index,
            number(verdict.observed),
            number(verdict.expected),
            number(verdict.max_abs),
            verdict.limit,
            number(verdict.rms),
            verdict.limit_rms
        )?;
    }
    Ok(())
}

fn write_diagnosis(out: &mut impl Write, diagnosis: &Diagnosis) -> Result<()> {
    let Some(first) = &diagnosis.first_divergence else {
        return Ok(());
    };
    writeln!(out, "  diagnosis")?;
    writeln!(out, "    first divergence: {}", first.tensor)?;
    if let Some(operation) = &diagnosis.operation {
        writeln!(out, "    operation: {operation}")?;
    }
    for cause in &diagnosis.causes {
        let left = match (cause.residual_before, cause.residual_after) {
            (before @ Some(_), after @ Some(_)) => {
                format!(" (error {} before, {} after)", number(before), number(after))
            }
            _ => String::new(),
        };
        writeln!(out, "    cause {}: {}{left}", cause.id, cause.explanation)?;
    }
    if diagnosis.causes.is_empty() {
        writeln!(out, "    no known mistake explains it")?;
    }
    for line in &diagnosis.error_shape {
        writeln!(out, "    the error is {line}")?;
    }
    for line in &diagnosis.notes {
        writeln!(out, "    note: {line}")?;
    }
    Ok(())
}

fn write_memory(out: &mut impl Write, memory: &Memory) -> Result<()> {
    let peak = memory.peak_rss_mb.map_or("not known".into(), |mb| format!("{mb:.0} MiB"));
    writeln!(
        out,
        "\npeak memory {peak} in one process; weights in memory one after the other: embedding {:.1} MiB, \
         one layer {:.1} MiB, head {:.1} MiB (the whole model: {:.1} MiB)",
        memory.embedding_mb, memory.layer_mb, memory.head_mb, memory.model_mb
    )
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "not finite".into(),
        Some(0.0) => "0".into(),
        Some(value) => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_sample_says_what_went_wrong() {
        let mut out = Vec::new();
        write_verify(&sample::report(4), &mut out, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "reference  reference_data/prompt2/reference.npz",
            "wgpu f32 (fusion on, autotune on): FAIL in ",
            "cuda f32: unavailable in 0.0 s\n  no CUDA device",
            "  accumulated: first beyond its limit: layer_03.self_attn.q_rope (9 in all); worst element [0, 4, ",
            "  seen, accumulated: rms errors from 1e-6 of a layer's output on, from 1e-6 of the logits on\n",
            "  greedy ids: 4 of 8 equal, 1 ties, smallest margin 1.000e-6",
            "  first wrong id: step 2 of row 0: 222 instead of 576, margin 5.200e-1",
            "    cause rope_interleaved: layer 3 matches to 3e-7 if RoPE rotates interleaved pairs instead of \
             halves (error 4.100e-1 before, 3.100e-7 after)",
            "\nbackend x backend, logits\n",
            "18 of 21 layer results pass; 2 passed, 1 failed, 0 crashed, 1 unavailable\n",
        ] {
            assert!(text.contains(line), "{line}\n\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
