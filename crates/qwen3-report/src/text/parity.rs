//! The results of parity as they come.

use std::io::{Result, Write};

use qwen3_trace::Verdict;
use qwen3_trace::names::layer_of;

use super::cause::likely_cause;
use super::screen::Screen;
use super::{counts, write_status};
use crate::{CaseResult, Label, ParityReport, Status};

/// Writes a row for each case, under a head for each backend and dtype.
pub struct ParityText {
    colour: bool,
    section: Option<Label>,
}

impl ParityText {
    /// Nothing written yet.
    pub fn new(colour: bool) -> Self {
        Self { colour, section: None }
    }

    /// Writes a row, with the details below it when the case did not pass.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn row(&mut self, out: &mut impl Write, result: &CaseResult) -> Result<()> {
        let out = &mut Screen::new(out, self.colour);
        let section = result.label();
        if self.section.as_ref() != Some(&section) {
            let switches = result.switches.map_or(String::new(), |switches| format!(" ({switches})"));
            writeln!(out, "\n{section}{switches}")?;
            self.section = Some(section);
            writeln!(
                out,
                "  {:<38} {:<34} {:>9} {:>9}  {:<11} {:>9}",
                "case", "worst tensor", "error", "limit", "verdict", "time"
            )?;
        }
        let [worst, error, limit] = match worst(&result.tensors) {
            Some(tensor) => {
                let error = |error| format!("{error:.2e}");
                let shown = tensor.max_abs.map_or("not finite".into(), error);
                [end_of(&tensor.name, 34), shown, format!("{:.2e}", tensor.limit)]
            }
            None => ["-"; 3].map(Into::into),
        };
        write!(out, "  {:<38} {worst:<34} {error:>9} {limit:>9}  ", result.case)?;
        write_status(out, result.status, 11)?;
        writeln!(out, " {:>6.0} ms", result.elapsed_ms)?;
        if let Some(reason) = &result.reason {
            writeln!(out, "      {reason}")?;
        }
        if result.status == Status::Fail {
            for line in explain(result) {
                writeln!(out, "      {line}")?;
            }
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

/// The tensor closest to, or furthest beyond, its limit; the first to fail if any does.
fn worst(tensors: &[Verdict]) -> Option<&Verdict> {
    let ratio = |tensor: &Verdict| match (tensor.max_abs, tensor.limit) {
        (Some(error), limit) if limit > 0.0 => error / limit,
        (Some(0.0), _) => 0.0,
        _ => f64::INFINITY,
    };
    let failing = tensors.iter().find(|tensor| !tensor.pass);
    failing.or_else(|| tensors.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b))))
}

/// The name, or as much of its end as fits into `width` columns.
fn end_of(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.into();
    }
    "…".chars().chain(name.chars().skip(length + 1 - width)).collect()
}

/// Says of a failed case where it first goes wrong, by how much, and what that points to.
fn explain(result: &CaseResult) -> Vec<String> {
    let Some(first) = result.tensors.iter().find(|tensor| !tensor.pass) else {
        return Vec::new();
    };
    let failed = result.tensors.iter().filter(|tensor| !tensor.pass).count();
    let number = |value: Option<f64>| value.map_or("not finite".into(), |value| format!("{value:.4e}"));
    let layer = layer_of(&first.name).map_or(String::new(), |layer| format!(", in layer {layer}"));
    let total = result.tensors.len();
    let mut lines = vec![
        format!("first to differ: {}{layer} ({failed} of {total} tensors differ)", first.name),
        format!(
            "worst element {:?} of shape {:?}: {} instead of {}; max abs {} (limit {:.4e}), rms {} (limit {:.4e})",
            first.max_abs_index,
            first.shape,
            number(first.observed),
            number(first.expected),
            number(first.max_abs),
            first.limit,
            number(first.rms),
            first.limit_rms
        ),
    ];
    lines.extend(first.note.clone());
    lines.push(format!("likely cause: {}", likely_cause(result.kind, first)));
    lines
}

#[cfg(test)]
mod tests {
    use qwen3_trace::{Backend, Mode};

    use super::*;
    use crate::{Kind, sample};

    #[test]
    fn long_names_are_cut_at_their_beginning() {
        assert_eq!(end_of("logits", 6), "logits");
        assert_eq!(end_of("layer_00_output", 8), "…_output");
    }

    #[test]
    fn a_section_has_one_head_and_failures_are_explained() {
        let case = |case: &str, ratio: f64| CaseResult {
            tensors: vec![sample::tensor(Mode::Isolated, "output", Some(ratio)).verdict],
            ..sample::case(case, Kind::Mlp, Backend::Flex, Status::of(ratio <= 1.0))
        };
        let results = vec![case("mlp-00", 0.5), case("mlp-01", 2.0)];
        let report = ParityReport { results, ..ParityReport::default() };
        let (mut text, mut out) = (ParityText::new(false), Vec::new());
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
