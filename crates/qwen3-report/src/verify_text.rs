//! The report on the terminal.

use std::io::{IsTerminal, Write, stderr, stdout};

use anyhow::Result;

use super::job::{Mode, Timing};
use super::judge::TensorReport;
use super::report::{Run, RunStatus, VerifyReport};
use crate::blame::Diagnosis;
use crate::tensors::layer_of;

/// Says on stderr what is going on; on a terminal, over what was said before.
pub fn progress(run: &str, what: &str) {
    let mut out = stderr().lock();
    let _ = match stderr().is_terminal() {
        true => write!(out, "\r\u{1b}[2K{run}: {what}"),
        false => Ok(()),
    };
    let _ = out.flush();
}

/// Prints the report.
///
/// # Errors
/// When standard output is closed.
pub fn print(report: &VerifyReport) -> Result<()> {
    if stderr().is_terminal() {
        eprint!("\r\u{1b}[2K");
    }
    let mut out = stdout().lock();
    writeln!(out, "model      {}", report.model_path)?;
    writeln!(
        out,
        "reference  {}",
        report.reference.as_deref().unwrap_or("none")
    )?;
    if let Some(observed) = &report.observed {
        writeln!(out, "observed   {observed}")?;
    }
    writeln!(out, "input      {}", report.test_input)?;
    writeln!(out, "limits     {}", report.limits)?;
    for run in &report.runs {
        print_run(&mut out, run)?;
    }
    if !report.pairwise.is_empty() {
        writeln!(out, "\nbackend x backend, {}", report.pairwise[0].tensor)?;
        for pair in &report.pairwise {
            writeln!(
                out,
                "  {:<28} {:<28} max abs {}  relative {}",
                pair.a,
                pair.b,
                number(pair.max_abs),
                number(pair.relative)
            )?;
        }
    }
    if let Some(consensus) = &report.consensus {
        writeln!(out, "  {}", consensus.explanation)?;
    }
    print_memory(&mut out, report)?;
    let count = |status| {
        report
            .runs
            .iter()
            .filter(|run| run.status == status)
            .count()
    };
    writeln!(
        out,
        "\n{} of {} layer results pass; {} passed, {} failed, {} crashed, {} unavailable",
        report.layers_passed,
        report.total_layers_tested,
        count(RunStatus::Pass),
        count(RunStatus::Fail),
        count(RunStatus::Crash),
        count(RunStatus::Unavailable)
    )?;
    Ok(())
}

fn print_run(out: &mut impl Write, run: &Run) -> Result<()> {
    let on = |on| if on { "on" } else { "off" };
    let switches = run.switches.map_or(String::new(), |switches| {
        let (fusion, autotune) = (on(switches.fusion), on(switches.autotune));
        format!(" (fusion {fusion}, autotune {autotune})")
    });
    let verdict = match run.status {
        RunStatus::Pass => ("pass", 32),
        RunStatus::Fail => ("FAIL", 31),
        RunStatus::Crash => ("CRASH", 31),
        RunStatus::Unavailable => ("unavailable", 33),
    };
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let verdict = match colour {
        true => format!("\u{1b}[{}m{}\u{1b}[0m", verdict.1, verdict.0),
        false => verdict.0.into(),
    };
    let peak = run
        .peak_rss_mb
        .map_or(String::new(), |mb| format!(", {mb:.0} MiB"));
    writeln!(
        out,
        "\n{}{switches}: {verdict} in {:.1} s{peak}",
        run.label(),
        run.elapsed_ms / 1e3
    )?;
    if !run.timings.is_empty() {
        let sum = |of: fn(&Timing) -> f64| run.timings.iter().map(of).sum::<f64>() / 1e3;
        let slowest = run
            .timings
            .iter()
            .max_by(|a, b| a.run_ms.total_cmp(&b.run_ms));
        let slowest = slowest.expect("there is one");
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
    if run.tensors.is_empty() && run.tokens.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  error over limit, the worse of largest and rms; at most 1 passes"
    )?;
    writeln!(
        out,
        "  {:<20} {:>12} {:>12} {:>12}   worst inside, isolated",
        "", "accumulated", "isolated", "patched"
    )?;
    for (name, key) in rows(run) {
        print_row(out, run, &name, &key)?;
    }
    print_tokens(out, run)?;
    print_failures(out, run)?;
    print_diagnosis(out, &run.diagnosis)
}

/// The rows of the table and the keys of their outputs.
fn rows(run: &Run) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for tensor in run
        .tensors
        .iter()
        .filter(|tensor| tensor.mode != Mode::Patched)
    {
        let key = match tensor.layer {
            Some(layer) => format!("layer_{layer:02}_output"),
            None => tensor.result.name.clone(),
        };
        let name = tensor
            .layer
            .map_or(key.clone(), |layer| format!("layer {layer}"));
        if !rows.iter().any(|(_, known)| *known == key) {
            rows.push((name, key));
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

fn print_row(out: &mut impl Write, run: &Run, name: &str, key: &str) -> Result<()> {
    let find = |mode: Mode| {
        let mut tensors = run.tensors.iter();
        tensors.find(move |t| t.mode == mode && t.result.name == key)
    };
    let layer = layer_of(key);
    let patched = run
        .tensors
        .iter()
        .find(|t| t.mode == Mode::Patched && layer.is_some() && t.layer == layer);
    let ratio = |tensor: Option<&TensorReport>| tensor.map_or("-".into(), ratio_text);
    let inside = run
        .tensors
        .iter()
        .filter(|t| t.mode == Mode::Isolated && layer.is_some() && t.layer == layer)
        .filter(|t| t.result.name.contains('.'));
    let worst = inside.max_by(|a, b| {
        let ratio = |t: &TensorReport| t.ratio.unwrap_or(f64::INFINITY);
        ratio(a).total_cmp(&ratio(b))
    });
    let worst = worst.map_or(String::new(), |tensor| {
        let tap = tensor
            .result
            .name
            .split_once('.')
            .map_or("", |(_, tap)| tap);
        format!("{} {tap}", ratio_text(tensor))
    });
    writeln!(
        out,
        "  {name:<20} {:>12} {:>12} {:>12}   {worst}",
        ratio(find(Mode::Accumulated)),
        ratio(find(Mode::Isolated)),
        ratio(patched)
    )?;
    Ok(())
}

fn ratio_text(tensor: &TensorReport) -> String {
    let mark = if tensor.result.pass { "" } else { " *" };
    match tensor.ratio {
        Some(ratio) if ratio < 1000.0 => format!("{ratio:.3}{mark}"),
        Some(ratio) => format!("{ratio:.1e}{mark}"),
        None => format!("not finite{mark}"),
    }
}

fn print_tokens(out: &mut impl Write, run: &Run) -> Result<()> {
    if run.tokens.is_empty() {
        return Ok(());
    }
    let same = run
        .tokens
        .iter()
        .filter(|t| i64::from(t.expected) == t.observed)
        .count();
    let ties = run.tokens.iter().filter(|t| t.tie).count();
    let margins = run.tokens.iter().filter_map(|token| token.margin);
    let smallest = margins.reduce(f64::min).map_or(String::new(), |margin| {
        format!(", smallest margin {margin:.3e}")
    });
    writeln!(
        out,
        "  greedy ids: {same} of {} equal, {ties} ties{smallest}",
        run.tokens.len()
    )?;
    let logits = run
        .tensors
        .iter()
        .find(|t| t.mode == Mode::Accumulated && t.result.name == "logits");
    if let Some(logits) = logits {
        writeln!(
            out,
            "  logits: KL {} nats, top-1 agreement {}, regret {} nats",
            number(logits.kl_divergence),
            logits
                .top1_agreement
                .map_or("-".into(), |share| format!("{:.1} %", 100.0 * share)),
            number(logits.regret_nats)
        )?;
    }
    if let Some(token) = run.tokens.iter().find(|token| !token.passes()) {
        writeln!(
            out,
            "  first wrong id: step {} of row {}: {} instead of {}{}",
            token.step,
            token.row,
            token.observed,
            token.expected,
            token
                .margin
                .map_or(String::new(), |margin| format!(", margin {margin:.3e}"))
        )?;
    }
    Ok(())
}

/// The worst element of the first tensor that fails in each mode.
fn print_failures(out: &mut impl Write, run: &Run) -> Result<()> {
    for mode in [Mode::Accumulated, Mode::Isolated, Mode::Patched] {
        let failing: Vec<_> = run
            .tensors
            .iter()
            .filter(|t| t.mode == mode && !t.result.pass)
            .collect();
        if let Some(first) = failing.first() {
            let result = &first.result;
            writeln!(
                out,
                "  {}: first beyond its limit: {} ({} in all); worst element {:?}: {} instead of {}, \
                 max abs {} (limit {:.3e}), rms {} (limit {:.3e})",
                mode.name(),
                result.name,
                failing.len(),
                result.max_abs_index,
                number(result.observed),
                number(result.expected),
                number(result.max_abs),
                result.limit,
                number(result.rms),
                result.limit_rms
            )?;
        }
    }
    Ok(())
}

fn print_diagnosis(out: &mut impl Write, diagnosis: &Diagnosis) -> Result<()> {
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
            (Some(before), Some(after)) => {
                format!(
                    " (error {} before, {} after)",
                    number(Some(before)),
                    number(Some(after))
                )
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

fn print_memory(out: &mut impl Write, report: &VerifyReport) -> Result<()> {
    let memory = &report.memory;
    let peak = memory
        .peak_rss_mb
        .map_or("not known".into(), |mb| format!("{mb:.0} MiB"));
    writeln!(
        out,
        "\npeak memory {peak} in one process; weights in memory one after the other: embedding {:.1} MiB, \
         one layer {:.1} MiB, head {:.1} MiB (the whole model: {:.1} MiB)",
        memory.embedding_mb, memory.layer_mb, memory.head_mb, memory.model_mb
    )?;
    Ok(())
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "not finite".into(),
        Some(0.0) => "0".into(),
        Some(value) => format!("{value:.3e}"),
    }
}
