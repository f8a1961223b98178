//! A verification as text: how each run ended and why, then what it was compared with, then the numbers.

mod diagnosis;
mod table;

use std::io::{Result, Write};

use super::screen::{Look, Screen, shortened};
use super::{counts, number, write_status};
use crate::{Memory, RunResult, Timing, VerifyReport};

/// Writes the whole report.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_verify(report: &VerifyReport, out: &mut impl Write, look: Look) -> Result<()> {
    let out = &mut Screen::new(out, look);
    for run in &report.runs {
        write_end(out, run)?;
    }
    write_given(out, report)?;
    for run in report.runs.iter().filter(|run| !run.verdicts.is_empty()) {
        table::write_numbers(out, run, report.fixed())?;
    }
    write_pairs(out, report)?;
    write_memory(out, &report.memory)?;
    let layers = format!("{} of {} layer results pass", report.layers_passed, report.total_layers_tested);
    let runs = counts(report.runs.iter().map(|run| run.status));
    writeln!(out)?;
    out.paragraph(0, &format!("{layers}; {runs}"))
}

/// How a run ended, and what is known of the reason.
fn write_end(out: &mut Screen<impl Write>, run: &RunResult) -> Result<()> {
    let switches = run.switches.map_or(String::new(), |switches| format!(" ({switches})"));
    let peak = run.peak_rss_mb.map_or(String::new(), |mb| format!(", {mb:.0} MiB"));
    // The longest status is `unavailable`.
    let width = out.look().width;
    let name = shortened(&format!("{}{switches}", run.label), width - 13);
    let took = format!("in {:.1} s{peak}", run.elapsed_ms / 1e3);
    let fits = name.chars().count() + 14 + took.len() <= width;
    write!(out, "{name}: ")?;
    write_status(out, run.status, 0)?;
    writeln!(out, "{}{took}", if fits { " " } else { "\n  " })?;
    if let Some(reason) = &run.reason {
        out.paragraph(2, reason)?;
    }
    diagnosis::write_diagnosis(out, &run.diagnosis)
}

fn write_given(out: &mut Screen<impl Write>, report: &VerifyReport) -> Result<()> {
    writeln!(out)?;
    let given = [
        ("model      ", Some(report.model_path.as_str())),
        ("adapter    ", report.adapter.as_deref()),
        ("reference  ", Some(report.reference.as_deref().unwrap_or("none"))),
        ("observed   ", report.observed.as_deref()),
        ("input      ", Some(report.test_input.as_str())),
        ("limits     ", Some(report.limits.as_str())),
    ];
    for (name, text) in given {
        if let Some(text) = text {
            out.named(name, text)?;
        }
    }
    Ok(())
}

/// How long each part of the model took.
fn write_timings(out: &mut Screen<impl Write>, timings: &[Timing]) -> Result<()> {
    let Some(slowest) = timings.iter().max_by(|a, b| a.run_ms.total_cmp(&b.run_ms)) else {
        return Ok(());
    };
    let sum = |of: fn(&Timing) -> f64| timings.iter().map(of).sum::<f64>() / 1e3;
    let text = format!(
        "loading {:.1} s, computing {:.1} s, {} longest with {:.0} ms",
        sum(|timing| timing.load_ms),
        sum(|timing| timing.run_ms),
        slowest.part,
        slowest.run_ms
    );
    out.paragraph(2, &text)
}

fn write_pairs(out: &mut Screen<impl Write>, report: &VerifyReport) -> Result<()> {
    if let Some(first) = report.pairwise.first() {
        writeln!(out, "\nbackend x backend, {}", first.tensor)?;
    }
    for pair in &report.pairwise {
        let (max_abs, relative) = (number(pair.max_abs), number(pair.relative));
        out.paragraph(2, &format!("{} and {}: max abs {max_abs}, relative {relative}", pair.a, pair.b))?;
    }
    match &report.consensus {
        Some(consensus) => out.bold(2, &consensus.explanation),
        None => Ok(()),
    }
}

fn write_memory(out: &mut Screen<impl Write>, memory: &Memory) -> Result<()> {
    let peak = memory.peak_rss_mb.map_or("not known".into(), |mb| format!("{mb:.0} MiB"));
    writeln!(out)?;
    let text = format!(
        "peak memory {peak} in one process; weights in memory one after the other: embedding {:.1} MiB, one layer \
         {:.1} MiB, head {:.1} MiB (the whole model: {:.1} MiB)",
        memory.embedding_mb, memory.layer_mb, memory.head_mb, memory.model_mb
    );
    out.paragraph(0, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn shown(report: &VerifyReport, look: Look) -> String {
        let mut out = Vec::new();
        write_verify(report, &mut out, look).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_sample_says_what_went_wrong() {
        let text = shown(&sample::report(4), Look { width: 200, ..Look::PLAIN });
        for line in [
            "reference  reference_data/prompt2/reference.npz\n",
            "wgpu f32 (fusion on, autotune on): FAIL in ",
            "cuda f32: unavailable in 0.0 s\n  no CUDA device",
            "  accumulated: first beyond its limit: layer_03.self_attn.q_rope (9 in all); worst element [0, 4, ",
            "  seen, accumulated: rms errors from 1e-6 of a layer's output on, from 1e-6 of the logits on\n",
            "  greedy ids: 4 of 8 equal, 1 tie, smallest margin 1.00e-6\n",
            "  first wrong at step 3 of 8: 222 instead of 576, margin 0.520\n",
            "    cause rope_interleaved: layer 3 matches to 3e-7 if RoPE rotates interleaved pairs instead of \
             halves (error 0.410 before, 3.10e-7 after)\n",
            "\nbackend x backend, logits\n",
            "18 of 21 layer results pass; 2 passed, 1 failed, 0 crashed, 1 unavailable\n",
        ] {
            assert!(text.contains(line), "{line}\n\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("e0"));
    }

    #[test]
    fn the_diagnosis_stands_first_and_bold_on_a_terminal_alone() {
        let report = sample::report(4);
        let plain = shown(&report, Look::PLAIN);
        let places = ["cause rope_interleaved", "model      ", "accumulated"].map(|word| plain.find(word));
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{plain}");
        let bold = shown(&report, Look { colour: true, ..Look::PLAIN });
        assert!(
            bold.contains("\u{1b}[1m    first divergence: layer_03.self_attn.q_rope\u{1b}[0m\n"),
            "{bold}"
        );
        assert!(bold.contains("\u{1b}[1m    cause rope_interleaved: "), "{bold}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut report = sample::report(40);
        report.model_path = "models/".repeat(30);
        report.runs[0].unread = vec!["model.layers.0.self_attn.q_proj".into(); 7];
        report.runs[2].label.variant = Some("without fusion and without autotune".into());
        report.runs[3].reason = Some("no device\n".repeat(2) + &"x".repeat(300));
        for width in [60, 80, 100] {
            let text = shown(&report, Look { width, ..Look::PLAIN });
            let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > width).collect();
            assert!(wide.is_empty(), "{wide:?}");
            for word in ["layer 39", "accumulated", "isolated", "patched", "rope_interleaved"] {
                assert!(text.contains(word), "{word} at {width}:\n{text}");
            }
        }
    }

    #[test]
    fn columns_are_those_of_the_modes_that_there_are() {
        let mut report = sample::report(4);
        report.runs.truncate(1);
        report.runs[0].verdicts.tensors.retain(|tensor| tensor.mode == qwen3_trace::Mode::Accumulated);
        let text = shown(&report, Look::PLAIN);
        assert!(text.contains("accumulated") && !text.contains("patched"), "{text}");
        assert!(!text.lines().any(|line| line.ends_with(" -")), "{text}");
    }

    #[test]
    fn ids_are_told_as_text_where_it_is_known() {
        let mut report = sample::report(4);
        let token = &mut report.runs[2].verdicts.tokens[2];
        (token.expected_text, token.observed_text) = (Some(" Paris".into()), Some("\u{1b}\n".into()));
        let text = shown(&report, Look { width: 100, ..Look::PLAIN });
        let line = r#"  first wrong at step 3 of 8: 222 "\u{1b}\n" instead of 576 " Paris", margin 0.520"#;
        assert!(text.contains(line), "{text}");
    }

    /// As activations are that were recorded inside layers alone.
    #[test]
    fn tensors_inside_layers_are_shown_without_isolated_runs() {
        let mut report = sample::report(4);
        report.runs.drain(..2);
        let inside = |tensor: &qwen3_trace::LayerVerdict| {
            tensor.mode == qwen3_trace::Mode::Accumulated && tensor.verdict.name.contains("self_attn.q_rope")
        };
        report.runs[0].verdicts.tensors.retain(inside);
        let text = shown(&report, Look::PLAIN);
        let row = text.lines().find(|line| line.starts_with("  layer 3")).unwrap();
        assert!(row.ends_with(" * self_attn.q_rope") && text.contains("worst inside, accumulated"), "{text}");
    }

    #[test]
    fn of_failures_alone_the_rows_that_pass_are_left_out() {
        let text = shown(&sample::report(4), Look { fail_only: true, ..Look::PLAIN });
        let rows = |word: &str| text.lines().filter(|line| line.trim_start().starts_with(word)).count();
        // Layer 0 passes in all runs, layer 3 fails in one; patched, layer 0 of it fails too.
        assert_eq!((rows("layer 3 "), rows("embedding_output ")), (1, 0), "{text}");
        assert!(text.contains("flex f32: pass") && text.contains("every row passes"), "{text}");
    }
}
