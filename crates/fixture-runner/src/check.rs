//! Hands what a subject computed, and what the fixture expects, to be judged.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;
use qwen3_trace::names::sequence_axis;
use qwen3_trace::{Compared, Floor, Precision, Rows, TensorFile, Verdict, judge_generated, judge_greedy};

use crate::manifest::{Case, Data, SameDType, Subject};
use crate::subject::{Output, read_columns, read_mask};

/// A noise floor of more epsilons of the largest value than this, or of more than the value, is none. The largest of
/// the committed ones, RoPE's tables at 32,768 positions in f32, has 2,131; of other tensors 8.
const LARGEST_FLOOR: f64 = 32_768.0;

/// Judges `outputs` by the expected tensors of `case` in `file`, in the order of computation.
///
/// # Errors
/// When the fixture lacks a tensor, has one that nothing computes, or one of another shape.
pub fn check_case(
    case: &Case,
    data: &Data,
    outputs: &[Output],
    file: &TensorFile,
    dtype: Precision,
) -> Result<Vec<Verdict>> {
    if let Subject::Greedy(..) = case.subject {
        return outputs.iter().map(|output| check_greedy(output, file)).collect();
    }
    let rows = stored_rows(&case.subject, file)?;
    // The margins say how to read the ids; they are not computed by the subject.
    for name in data.expected.tensors.iter().filter(|name| *name != "margins") {
        ensure!(
            outputs.iter().any(|output| output.name == *name),
            "expected tensor `{name}` is not one that a {} case computes",
            case.kind()
        );
    }
    let mut verdicts: Vec<Verdict> = Vec::new();
    for output in outputs.iter().filter(|output| data.expected.tensors.contains(&output.name)) {
        if output.name == "generated_ids" {
            let logits = verdicts.iter().find(|verdict| verdict.name == "step_logits");
            let reach = 2.0 * logits.map_or(0.0, |verdict| verdict.limit);
            let ids = output.data.iter::<i64>().collect::<Vec<_>>();
            verdicts.push(judge_generated(file, &ids, &output.data.shape()[..], reach)?);
            continue;
        }
        let floors = data.noise_floors.get(&output.name);
        let floor = floors
            .and_then(|floors| floors.get(&dtype))
            .with_context(|| format!("tensor `{}` has no noise floor in {dtype}", output.name))?;
        let mut verdict = check_floats(output, file, rows.as_ref(), *floor, dtype)?;
        if let Subject::RmsNorm { same_dtype, .. } = &case.subject
            && let Some(same) = same_dtype.get(&output.name).and_then(|same| same.get(&dtype))
        {
            check_bits(output, file, same, dtype, &mut verdict)?;
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// The mask over the positions that are stored: all of the inputs', or a prefill's `columns` of them.
/// Gradients have no positions.
fn stored_rows(subject: &Subject, file: &TensorFile) -> Result<Option<Rows>> {
    let Some(mask) = read_mask(file)? else {
        return Ok(None);
    };
    Ok(match subject {
        Subject::Gradients(..) => None,
        Subject::Prefill { .. } => {
            let columns = read_columns(file, mask[0].len())?;
            let stored = |row: &Vec<bool>| columns.iter().map(|column| row[*column]).collect();
            Some(Rows::of_mask(mask.iter().map(stored).collect()))
        }
        _ => Some(Rows::of_mask(mask)),
    })
}

/// Compares two lists of parameters bit for bit.
///
/// # Errors
/// When they do not list the same parameters.
pub fn check_equal(outputs: &[Output], expected: &[Output]) -> Result<Vec<Verdict>> {
    ensure!(outputs.len() == expected.len(), "{} parameters, expected {}", outputs.len(), expected.len());
    let pairs = outputs.iter().zip(expected);
    pairs
        .map(|(output, expected)| {
            let name = &output.name;
            ensure!(*name == expected.name, "`{name}` where `{}` belongs", expected.name);
            let shape = shape(&output.data);
            let same_type = output.data.dtype() == expected.data.dtype();
            let equal = same_type && output.data.as_bytes() == expected.data.as_bytes();
            let (values, wanted) = (floats(&output.data), floats(&expected.data));
            ensure!(
                values.len() == wanted.len(),
                "`{name}` has shape {shape:?}, expected {:?}",
                expected.data.shape()
            );
            let compared = Compared { name, shape: &shape, observed: &values, expected: &wanted };
            Ok(Verdict {
                pass: equal,
                note: (!equal).then(|| "the bits differ".into()),
                ..compared.judge_exact()
            })
        })
        .collect()
}

fn check_floats(
    output: &Output,
    file: &TensorFile,
    rows: Option<&Rows>,
    floor: Floor,
    dtype: Precision,
) -> Result<Verdict> {
    let name = &output.name;
    let array = file.read(name)?;
    let shape = shape(&output.data);
    ensure!(
        shape == array.shape,
        "tensor `{name}` has shape {:?} in the fixture, but the model gives {shape:?}",
        array.shape
    );
    let padded = rows.zip(sequence_axis(name));
    if let Some((rows, axis)) = padded {
        let [batch, seq] = rows.dims();
        ensure!(
            shape[0] == batch && shape.get(axis) == Some(&seq),
            "`attention_mask` does not fit tensor `{name}` of shape {shape:?}"
        );
    }
    let (observed, expected) = (floats(&output.data), array.floats(name)?);
    let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
    let possible = (LARGEST_FLOOR * dtype.epsilon()).min(1.0) * largest;
    ensure!(
        floor.max_abs <= possible && floor.rms <= possible,
        "tensor `{name}` has a noise floor of {:.2e}, rms {:.2e}, in {dtype}: no run is off by so much of values of \
         at most {largest:.2e}",
        floor.max_abs,
        floor.rms
    );
    let compared = Compared { name, shape: &shape, observed: &observed, expected };
    let counted = |index| padded.is_none_or(|(rows, axis)| rows.is_token(&shape, axis, index));
    Ok(compared.judge(floor, dtype, counted))
}

/// The comparison of a norm in half precision with Transformers' own bits in that precision.
fn check_bits(
    output: &Output,
    file: &TensorFile,
    same: &SameDType,
    dtype: Precision,
    verdict: &mut Verdict,
) -> Result<()> {
    let (stored, expected) = file.read_bits(&same.tensor)?;
    ensure!(
        stored == dtype && expected.len() * 2 == output.data.as_bytes().len(),
        "tensor `{}` does not hold {} {dtype} values",
        same.tensor,
        expected.len()
    );
    let (pairs, _) = output.data.as_bytes().as_chunks::<2>();
    let observed: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    verdict.judge_bits(&observed, &expected, same.unequal, dtype);
    Ok(())
}

fn check_greedy(output: &Output, file: &TensorFile) -> Result<Verdict> {
    let [prompts, new] = shape(&output.data)[..] else {
        bail!("`{}` is not a matrix", output.name);
    };
    let ids = output.data.iter::<i64>().collect::<Vec<_>>();
    Ok(judge_greedy(&output.name, file, &ids, [prompts, new])?)
}

fn shape(data: &TensorData) -> Vec<usize> {
    data.shape().to_vec()
}

fn floats(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}
