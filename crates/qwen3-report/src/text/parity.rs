//! The results of parity as they come.

use std::io::{Result, Write};

use qwen3_trace::Verdict;
use qwen3_trace::names::layer_of;

use super::cause::likely_cause;
use super::screen::{Look, Screen, shortened};
use super::{counts, number, write_status};
use crate::measure::error_over_limit;
use crate::{CaseResult, Kind, Label, ParityReport, Status};

/// The columns of the numbers: `error/limit`, the time and the verdict, with what is between all of them.
const NUMBERS: usize = 1 + 11 + 1 + 8 + 2 + 7;
/// No case and no tensor is wider than this.
const WIDEST: [usize; 2] = [47, 34];

/// Writes a row for each case, under a head for each backend and dtype.
pub struct ParityText {
    look: Look,
    section: Option<Label>,
}

impl ParityText {
    /// Nothing written yet.
    pub fn new(look: Look) -> Self {
        Self { look, section: None }
    }

    /// The columns of the case and of its worst tensor.
    fn columns(&self) -> [usize; 2] {
        let left = self.look.width.saturating_sub(2 + 2 + NUMBERS);
        let case = (left * 3 / 5).min(WIDEST[0]);
        [case, (left - case).min(WIDEST[1])]
    }

    /// Writes a row, with the details below it when the case did not pass.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn row(&mut self, out: &mut impl Write, result: &CaseResult) -> Result<()> {
        if self.look.fail_only && !result.status.failed() {
            return Ok(());
        }
        let out = &mut Screen::new(out, self.look);
        let [case_width, worst_width] = self.columns();
        let section = result.label();
        if self.section.as_ref() != Some(&section) {
            let switches = result.switches.map_or(String::new(), |switches| format!(" ({switches})"));
            writeln!(out, "\n{section}{switches}")?;
            self.section = Some(section);
            let (case, worst) = (shortened("case", case_width), shortened("worst tensor", worst_width));
            writeln!(
                out,
                "  {case:<case_width$}  {worst:<worst_width$} {:>11} {:>8}  verdict",
                "error/limit", "time"
            )?;
        }
        let case = shortened(&result.case, case_width);
        let [worst, ratio] = match worst(&result.tensors) {
            Some(tensor) => [shortened(&tensor.name, worst_width), number(Some(error_over_limit(tensor)))],
            None => ["-".into(), "-".into()],
        };
        let time = time(result.elapsed_ms);
        if result.status.ran() {
            write!(out, "  {case:<case_width$}  {worst:<worst_width$} {ratio:>11} {time:>8}  ")?;
        } else {
            write!(out, "  {case:<case_width$}  ")?;
        }
        write_status(out, result.status, 0)?;
        writeln!(out)?;
        if let Some(reason) = &result.reason {
            out.paragraph(6, reason)?;
        }
        if result.status == Status::Fail {
            explain(out, result)?;
        }
        out.flush()
    }

    /// Writes the last line: how many cases ended how.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn summary(&self, out: &mut impl Write, report: &ParityReport, seconds: f64) -> Result<()> {
        let counts = counts(report.results.iter().map(|result| result.status));
        writeln!(out, "\n{counts} in {seconds:.1} s")
    }
}

/// Writes a case of a list: its id and kind, and below them what it is about.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_listed(out: &mut impl Write, look: Look, id: &str, kind: Kind, description: &str) -> Result<()> {
    let out = &mut Screen::new(out, look);
    let width = WIDEST[0];
    writeln!(out, "{id:<width$} {kind}")?;
    out.paragraph(4, description)
}

/// The tensor closest to, or furthest beyond, its limit; the first to fail if any does.
fn worst(tensors: &[Verdict]) -> Option<&Verdict> {
    let failing = tensors.iter().find(|tensor| !tensor.pass);
    let ratio = error_over_limit;
    failing.or_else(|| tensors.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b))))
}

/// Milliseconds, or seconds where they are many.
fn time(ms: f64) -> String {
    if ms < 9999.5 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1e3) }
}

/// Says of a failed case what it points to, where it first goes wrong, and by how much.
fn explain(out: &mut Screen<impl Write>, result: &CaseResult) -> Result<()> {
    let Some(first) = result.tensors.iter().find(|tensor| !tensor.pass) else {
        return Ok(());
    };
    let failed = result.tensors.iter().filter(|tensor| !tensor.pass).count();
    let layer = layer_of(&first.name).map_or(String::new(), |layer| format!(", in layer {layer}"));
    let total = result.tensors.len();
    out.bold(6, &format!("likely cause: {}", likely_cause(result.kind, first)))?;
    out.bold(6, &format!("first to differ: {}{layer} ({failed} of {total} tensors differ)", first.name))?;
    let worst = format!(
        "worst element {:?} of shape {:?}: {} instead of {}; max abs {} (limit {}), rms {} (limit {})",
        first.max_abs_index,
        first.shape,
        number(first.observed),
        number(first.expected),
        number(first.max_abs),
        number(Some(first.limit)),
        number(first.rms),
        number(Some(first.limit_rms))
    );
    out.paragraph(6, &worst)?;
    match &first.note {
        Some(note) => out.paragraph(6, note),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use qwen3_trace::{Backend, Mode};

    use super::*;
    use crate::sample;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_only_failures_are_shown_where_asked() {
        let case = |case: &str, status| {
            let name = "layer_00.self_attn.q_rope.and.something.that.is.very.long";
            let mut tensor = sample::tensor(Mode::Isolated, name, Some(2.0)).verdict;
            (tensor.max_abs, tensor.expected, tensor.observed) = (Some(123.456), Some(-1.0), Some(1e-12));
            tensor.note = Some("values ".repeat(30));
            let reason = (status == Status::Crash).then(|| "x".repeat(200));
            CaseResult {
                tensors: vec![tensor],
                reason,
                elapsed_ms: 360_000.0,
                ..sample::case(case, Kind::Prefill, Backend::Flex, status)
            }
        };
        let long = "long-context/prefill-1-64-255-256-257-chunk-256";
        let cases = [
            case("passes", Status::Pass),
            case(long, Status::Fail),
            case(long, Status::Crash),
            case(long, Status::Unavailable),
        ];
        for width in [60, 80, 100, 200] {
            let shown = |fail_only| {
                let (mut out, look) = (Vec::new(), Look { width, fail_only, ..Look::PLAIN });
                let mut text = ParityText::new(look);
                cases.iter().for_each(|case| text.row(&mut out, case).unwrap());
                String::from_utf8(out).unwrap()
            };
            let text = shown(false);
            let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > width).collect();
            assert!(wide.is_empty(), "{wide:?}");
            assert!(
                text.contains("long-c") && text.contains("nk-256") && text.contains("error/limit"),
                "{text}"
            );
            assert!(
                text.contains("unavailable") && text.contains("360.0 s") && !text.contains("e0"),
                "{text}"
            );
            let failures = shown(true);
            assert!(!failures.contains("passes") && !failures.contains("unavailable"), "{failures}");
            assert!(failures.contains("FAIL") && failures.contains("CRASH"), "{failures}");
        }
    }

    #[test]
    fn a_section_has_one_head_and_failures_are_explained() {
        let case = |case: &str, ratio: f64| CaseResult {
            tensors: vec![sample::tensor(Mode::Isolated, "output", Some(ratio)).verdict],
            ..sample::case(case, Kind::Mlp, Backend::Flex, Status::of(ratio <= 1.0))
        };
        let results = vec![case("mlp-00", 0.5), case("mlp-01", 2.0)];
        let report = ParityReport { results, ..ParityReport::default() };
        let (mut text, mut out) = (ParityText::new(Look::PLAIN), Vec::new());
        for result in &report.results {
            text.row(&mut out, result).unwrap();
        }
        text.summary(&mut out, &report, 1.25).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("worst tensor").count(), 1);
        let mut other = Vec::new();
        text.row(
            &mut other,
            &CaseResult { variant: Some("without kernels".into()), ..report.results[0].clone() },
        )
        .unwrap();
        let other = String::from_utf8(other).unwrap();
        assert!(other.starts_with("\nflex f32 (without kernels)\n  case  "), "{other}");
        assert!(out.starts_with("\nflex f32\n  case  "), "{out}");
        assert!(out.contains("      first to differ: output (1 of 1 tensors differ)\n"), "{out}");
        assert!(out.contains("      likely cause: the feed-forward block"), "{out}");
        assert!(out.ends_with("\n1 passed, 1 failed, 0 crashed, 0 unavailable in 1.2 s\n"), "{out}");
    }
}
