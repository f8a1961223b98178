//! Where and why a run goes wrong.

use std::io::{Result, Write};

use qwen3_blame::{Cause, Diagnosis};

use super::{Screen, number};

/// Writes what is known, the most important in bold letters; nothing of a run that passes.
pub fn write_diagnosis(out: &mut Screen<impl Write>, diagnosis: &Diagnosis) -> Result<()> {
    let Some(first) = &diagnosis.first_divergence else {
        return Ok(());
    };
    out.bold(2, "diagnosis")?;
    out.bold(4, &format!("first divergence: {}", first.tensor))?;
    if let Some(operation) = &diagnosis.operation {
        out.bold(4, &format!("operation: {operation}"))?;
    }
    for cause in &diagnosis.causes {
        out.bold(4, &sentence(cause))?;
    }
    if diagnosis.causes.is_empty() {
        out.bold(4, "no known mistake explains it")?;
    }
    for line in &diagnosis.error_shape {
        out.paragraph(4, &format!("the error is {line}"))?;
    }
    for line in &diagnosis.notes {
        out.paragraph(4, &format!("note: {line}"))?;
    }
    Ok(())
}

fn sentence(cause: &Cause) -> String {
    let left = match (cause.residual_before, cause.residual_after) {
        (before @ Some(_), after @ Some(_)) => {
            format!(" (error {} before, {} after)", number(before), number(after))
        }
        _ => String::new(),
    };
    match &cause.evidence {
        Some(evidence) => format!("consistent with {}, by {evidence}: {}", cause.id, cause.explanation),
        None => format!("cause {}: {}{left}", cause.id, cause.explanation),
    }
}
