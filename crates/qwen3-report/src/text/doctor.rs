//! What became of a checkpoint's weights, as text: the conclusion, what was found, and what precision values went through.

use std::io::{Result, Write};

use super::screen::{Look, Screen, shortened};
use crate::doctor::{DoctorReport, Finding, Health, TensorHealth};
use crate::text::number;

/// Findings of one kind that are written.
const ALIKE: usize = 3;
/// Tensors of a finding that are named.
const NAMED: usize = 8;

/// Writes the whole report; with `all`, a line for every tensor, and not for those alone that are not right.
///
/// # Errors
/// When `out` cannot be written to.
pub fn write_doctor(report: &DoctorReport, out: &mut impl Write, look: Look, all: bool) -> Result<()> {
    let out = &mut Screen::new(out, look);
    let colour = match report.health {
        Health::Wrong => 31,
        _ => 32,
    };
    out.coloured(if report.health == Health::Wrong { "WRONG" } else { report.health.name() }, colour)?;
    writeln!(out, " in {:.1} s", report.elapsed_ms / 1e3)?;
    out.bold(2, &report.conclusion())?;
    let mut more: Vec<(&Finding, usize)> = Vec::new();
    for finding in &report.findings {
        let alike =
            report.findings.iter().filter(|other| (other.id, other.health) == (finding.id, finding.health));
        let (number, count) = (alike.clone().position(|other| other == finding), alike.count());
        match number {
            Some(number) if number < ALIKE => write_finding(out, finding)?,
            _ if more.iter().any(|(other, _)| other.id == finding.id) => {}
            _ => more.push((finding, count - ALIKE)),
        }
    }
    for (finding, count) in more {
        out.paragraph(2, &format!("and {count} more: {} (--json and --html have all)", finding.id.title()))?;
    }
    writeln!(out)?;
    out.named("model      ", &format!("{} ({})", report.model, report.model_format))?;
    out.named("original   ", &format!("{} ({})", report.original, report.original_format))?;
    out.named("compared   ", &format!("{} values", report.values))?;
    let kinds = report.kinds();
    if !kinds.is_empty() {
        writeln!(
            out,
            "\n{:>7}  {:<8} {:<8} {:>9} {:>8}  what",
            "tensors", "original", "model", "relative", "x bound"
        )?;
    }
    for kind in kinds {
        let bound = if kind.ratio == 0.0 { "-".into() } else { format!("{:.2}", kind.ratio) };
        let relative = number(Some(kind.relative));
        let what = kind.what();
        writeln!(
            out,
            "{:>7}  {:<8} {:<8} {relative:>9} {bound:>8}  {what}",
            kind.count, kind.original_dtype, kind.dtype
        )?;
    }
    let listed = report.tensors.iter().filter(|tensor| all || tensor.health >= Health::Layout);
    let listed: Vec<&TensorHealth> = listed.collect();
    if !listed.is_empty() {
        writeln!(out, "\n{:<48} {:<8} {:<8} {:>9}  what", "tensor", "original", "model", "relative")?;
    }
    for tensor in listed {
        write_tensor(out, tensor)?;
    }
    Ok(())
}

fn write_finding(out: &mut Screen<impl Write>, finding: &Finding) -> Result<()> {
    let (word, colour) = match finding.health {
        Health::Wrong => ("wrong", 31),
        other => (other.name(), 33),
    };
    write!(out, "  ")?;
    out.coloured(word, colour)?;
    writeln!(out, ": {}", finding.id.title())?;
    out.paragraph(4, &finding.explanation)?;
    if finding.tensors.len() > 1 {
        let more = finding.tensors.len().saturating_sub(NAMED);
        let named = finding.tensors[..finding.tensors.len() - more].join(", ");
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        out.paragraph(4, &format!("{named}{more}"))?;
    }
    Ok(())
}

fn write_tensor(out: &mut Screen<impl Write>, tensor: &TensorHealth) -> Result<()> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or("-".into());
    let titles: Vec<&str> = tensor.findings.iter().map(|id| id.title()).collect();
    let what = match (&titles[..], &tensor.through) {
        ([], None) => tensor.health.name().to_string(),
        ([], Some(through)) => through.format.clone(),
        (titles, _) => titles.join(", "),
    };
    writeln!(
        out,
        "{:<48} {:<8} {:<8} {:>9}  {what}",
        shortened(&tensor.name, 48),
        or_dash(&tensor.original_dtype),
        or_dash(&tensor.dtype),
        tensor.relative.map_or("-".into(), |relative| number(Some(relative))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn findings_come_first_and_tensors_that_are_well_are_counted() {
        let shown = |all| {
            let mut out = Vec::new();
            write_doctor(&sample::doctor(), &mut out, Look::PLAIN, all).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = shown(false);
        assert!(text.starts_with("WRONG in 1.5 s\n"), "{text}");
        assert!(text.contains("  wrong: exchanged\n    model.layers.0.mlp.gate_proj.weight holds"), "{text}");
        assert!(text.contains("      2  bf16     q8_0"), "{text}");
        assert_eq!(text.matches("\nmodel.layers.").count(), 2, "{text}");
        assert_eq!(shown(true).matches("\nmodel.").count(), 5, "{}", shown(true));
        assert!(
            text.lines().filter(|line| !line.starts_with("model.")).all(|line| line.len() <= 100),
            "{text}"
        );
    }
}
