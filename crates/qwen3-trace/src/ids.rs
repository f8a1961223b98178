//! Verdicts on generated token ids, with the margins between the two best logits beside them.

use crate::error::ensure;
use crate::verdict::Compared;
use crate::{TensorFile, TraceError, Verdict, figure};

/// The expected ids of a file and their margins.
struct Expected {
    ids: Vec<i64>,
    /// `[prompts, columns]` of the ids.
    shape: Vec<usize>,
    /// For the last columns, row by row.
    margins: Vec<f32>,
    steps: usize,
}

impl Expected {
    fn read(file: &TensorFile) -> Result<Self, TraceError> {
        let array = file.read("generated_ids")?;
        let margins = file.has("margins").then(|| file.read("margins")).transpose()?;
        let (columns, steps) = (
            array.shape.get(1).copied().unwrap_or(0),
            margins.as_ref().map_or(0, |margins| margins.shape.get(1).copied().unwrap_or(0)),
        );
        let fits = margins.as_ref().is_none_or(|m| m.shape.len() == 2 && m.shape[0] == array.shape[0]);
        ensure(array.shape.len() == 2 && fits && steps <= columns, file.path(), || {
            "tensor `margins` does not fit `generated_ids`".into()
        })?;
        Ok(Self {
            ids: array.ints("generated_ids")?.to_vec(),
            margins: match margins {
                Some(margins) => margins.floats("margins")?.to_vec(),
                None => Vec::new(),
            },
            shape: array.shape,
            steps,
        })
    }

    /// How far the best logit was ahead of the second at the id of flat `index`.
    fn margin(&self, index: usize) -> Option<f64> {
        let (columns, steps) = (self.shape[1], self.steps);
        let column = (index % columns).checked_sub(columns - steps)?;
        let margin = self.margins.get(index / columns * steps + column);
        margin.copied().map(f64::from)
    }
}

/// Ids compared as numbers; all of them have to be equal.
pub(crate) fn exact(name: &str, shape: &[usize], observed: &[i64], expected: &[i64]) -> Verdict {
    let floats = |ids: &[i64]| ids.iter().map(|id| *id as f32).collect::<Vec<_>>();
    let (observed, expected) = (floats(observed), floats(expected));
    let (observed, expected) = (&observed[..], &expected[..]);
    let compared = Compared { name, shape, observed, expected };
    compared.judge_exact()
}

/// Generated ids, prompt included, must equal those of `file`, except where its two best logits are closer
/// together than `reach`, by which noise can turn them around: those are ties, and reported.
///
/// # Errors
/// When the file lacks the ids, or they have another shape.
pub fn judge_generated(
    file: &TensorFile,
    observed: &[i64],
    shape: &[usize],
    reach: f64,
) -> Result<Verdict, TraceError> {
    let expected = Expected::read(file)?;
    if shape != expected.shape {
        return Err(TraceError::Shape {
            file: file.path().into(),
            tensor: "generated_ids".into(),
            found: expected.shape,
            expected: shape.into(),
        });
    }
    let (mut ties, mut wrong) = (0, None);
    for index in (0..observed.len()).filter(|index| observed[*index] != expected.ids[*index]) {
        match expected.margin(index) {
            Some(margin) if margin <= reach => ties += 1,
            _ => wrong = wrong.or(Some(index)),
        }
    }
    let mut verdict = exact("generated_ids", shape, observed, &expected.ids);
    verdict.pass = wrong.is_none();
    let smallest = expected.margins.iter().copied().reduce(f32::min);
    let smallest =
        smallest.map_or(String::new(), |margin| format!("; smallest margin {}", figure(margin.into())));
    verdict.note = Some(match wrong {
        None => format!("{ties} ties{smallest}"),
        Some(index) => format!(
            "first wrong id at [{}, {}]: {} instead of {}, margin {}",
            index / shape[1],
            index % shape[1],
            observed[index],
            expected.ids[index],
            expected.margin(index).map_or("unknown".into(), figure),
        ),
    });
    Ok(verdict)
}

/// Tokens that were decoded from their own predecessors, `[prompts, new]`, must be those of `file`; a prompt's
/// first wrong one is what counts, for the others follow from it.
///
/// # Errors
/// When the file lacks the ids or their margins, or they do not fit.
pub fn judge_greedy(
    name: &str,
    file: &TensorFile,
    observed: &[i64],
    [prompts, new]: [usize; 2],
) -> Result<Verdict, TraceError> {
    let expected = Expected::read(file)?;
    let columns = expected.shape[1];
    ensure(expected.shape[0] == prompts && columns > new && expected.steps == new, file.path(), || {
        format!("`generated_ids` and `margins` do not fit {prompts} x {new} tokens")
    })?;
    let wanted = expected.ids.chunks(columns).flat_map(|row| &row[columns - new..]);
    let wanted = wanted.copied().collect::<Vec<_>>();
    let wrong = (0..prompts).filter_map(|prompt| {
        let mut row = prompt * new..(prompt + 1) * new;
        row.find(|index| observed[*index] != wanted[*index])
    });
    let wrong = wrong.collect::<Vec<_>>();
    let mut verdict = exact(name, &[prompts, new], observed, &wanted);
    verdict.pass = wrong.is_empty();
    verdict.note = wrong.first().map(|index| {
        format!(
            "{} of {prompts} prompts differ; the first wrong id is at [{}, {}]: {} instead of {}, margin {}",
            wrong.len(),
            index / new,
            index % new,
            observed[*index],
            wanted[*index],
            figure(expected.margins[*index].into())
        )
    });
    Ok(verdict)
}
