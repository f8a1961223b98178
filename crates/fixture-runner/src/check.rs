//! Compares what a subject computed with what the fixture expects.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::TensorData;

use crate::data::TensorFile;
use crate::manifest::{Case, Floor, Kind, SameDType, TestDType};
use crate::metrics::{self, Limit, Metrics};
use crate::protocol::TensorResult;
use crate::subject::{Output, read_columns, read_mask};
use crate::tensors::sequence_axis;

/// In half precision a norm must give Transformers' own bits, except where the last bit of the f32
/// inside it decides a rounding: at most this share of elements beyond the share at which Transformers
/// itself differs from a float64 norm with the same rounding points.
const UNEQUAL_ALLOWANCE: f64 = 0.01;

/// Compares `outputs` with the expected tensors of `case` in `file`, in the order of computation.
///
/// # Errors
/// When the fixture lacks a tensor, has one that nothing computes, or one of another shape.
pub fn check_case(
    case: &Case,
    outputs: &[Output],
    file: &TensorFile,
    dtype: TestDType,
) -> Result<Vec<TensorResult>> {
    let expected = case.expected.as_ref().context("the case expects nothing")?;
    if case.kind == Kind::Greedy {
        return outputs
            .iter()
            .map(|output| check_greedy(output, file))
            .collect();
    }
    let mask = stored_mask(case.kind, file)?;
    // The margins say how to read the ids; they are not computed by the subject.
    for name in expected.tensors.iter().filter(|name| *name != "margins") {
        ensure!(
            outputs.iter().any(|output| output.name == *name),
            "expected tensor `{name}` is not one that a {} case computes",
            case.kind
        );
    }
    let mut results = Vec::new();
    for output in outputs {
        if !expected.tensors.contains(&output.name) {
            continue;
        }
        if output.name == "generated_ids" {
            results.push(check_ids(output, file, &results)?);
            continue;
        }
        let floor = case
            .noise_floors
            .get(&output.name)
            .and_then(|floors| floors.get(&dtype))
            .with_context(|| format!("tensor `{}` has no noise floor in {dtype}", output.name))?;
        let mut result = check_floats(output, file, mask.as_deref(), *floor, dtype)?;
        let same = case.same_dtype.get(&output.name);
        if let Some(same) = same.and_then(|same| same.get(&dtype)) {
            check_bits(output, file, same, dtype, &mut result)?;
        }
        results.push(result);
    }
    Ok(results)
}

/// The mask over the positions that are stored: all of the inputs', or a prefill's `columns` of them.
/// Gradients have no positions.
fn stored_mask(kind: Kind, file: &TensorFile) -> Result<Option<Vec<Vec<bool>>>> {
    match read_mask(file)? {
        _ if kind == Kind::Gradients => Ok(None),
        Some(mask) if kind == Kind::Prefill => {
            let columns = read_columns(file, mask[0].len())?;
            let stored = |row: &Vec<bool>| columns.iter().map(|column| row[*column]).collect();
            Ok(Some(mask.iter().map(stored).collect()))
        }
        mask => Ok(mask),
    }
}

/// Compares two lists of parameters bit for bit.
///
/// # Errors
/// When they do not list the same parameters.
pub fn check_equal(outputs: &[Output], expected: &[Output]) -> Result<Vec<TensorResult>> {
    ensure!(
        outputs.len() == expected.len(),
        "{} parameters, expected {}",
        outputs.len(),
        expected.len()
    );
    let pairs = outputs.iter().zip(expected);
    pairs
        .map(|(output, expected)| {
            let name = &output.name;
            ensure!(
                *name == expected.name,
                "`{name}` where `{}` belongs",
                expected.name
            );
            let shape = shape(&output.data);
            let same_type = output.data.dtype() == expected.data.dtype();
            let equal = same_type && output.data.as_bytes() == expected.data.as_bytes();
            let (values, wanted) = (floats(&output.data)?, floats(&expected.data)?);
            ensure!(
                values.len() == wanted.len(),
                "`{name}` has shape {shape:?}, expected {:?}",
                expected.data.shape()
            );
            let mut result = exact_result(name, shape, &values, &wanted);
            result.pass = equal;
            result.note = (!equal).then(|| "the bits differ".into());
            Ok(result)
        })
        .collect()
}

fn check_floats(
    output: &Output,
    file: &TensorFile,
    mask: Option<&[Vec<bool>]>,
    floor: Floor,
    dtype: TestDType,
) -> Result<TensorResult> {
    let name = &output.name;
    let array = file.read(name)?;
    let expected = array.floats(name)?;
    let shape = shape(&output.data);
    ensure!(
        shape == array.shape,
        "tensor `{name}` has shape {:?} in the fixture, but the model gives {shape:?}",
        array.shape
    );
    if let (Some(mask), Some(axis)) = (mask, sequence_axis(name)) {
        ensure!(
            mask.len() == shape[0] && shape.get(axis) == Some(&mask[0].len()),
            "`attention_mask` does not fit tensor `{name}` of shape {shape:?}"
        );
    }
    let observed = floats(&output.data)?;
    let counted = |index: usize| match (mask, sequence_axis(name)) {
        (Some(mask), Some(axis)) => is_token(mask, &shape, axis, index),
        _ => true,
    };
    let metrics = metrics::compare(&observed, expected, &shape, dtype, counted);
    let limit = metrics::limit(floor, expected, dtype, counted);
    let mut result = tensor_result(
        name,
        shape.clone(),
        metrics,
        floor,
        limit,
        &observed,
        expected,
    );
    if observed.iter().any(|value| !value.is_finite()) {
        result.note = Some("not finite".into());
    }
    Ok(result)
}

/// Whether the element at flat `index` of a tensor of `shape`, whose sequence is on `axis`, belongs to a
/// token and not to padding.
pub(crate) fn is_token(mask: &[Vec<bool>], shape: &[usize], axis: usize, index: usize) -> bool {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[1..].iter().product();
    mask[index / outer][index / inner % shape[axis]]
}

/// The comparison of a norm in half precision with Transformers' own bits in that precision, which is
/// what tells apart the order of rounding.
fn check_bits(
    output: &Output,
    file: &TensorFile,
    same: &SameDType,
    dtype: TestDType,
    result: &mut TensorResult,
) -> Result<()> {
    let (stored, expected) = file.read_bits(&same.tensor)?;
    ensure!(
        stored == dtype && expected.len() * 2 == output.data.as_bytes().len(),
        "tensor `{}` does not hold {} {dtype} values",
        same.tensor,
        expected.len()
    );
    let (pairs, _) = output.data.as_bytes().as_chunks::<2>();
    let observed = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let bits = metrics::same_dtype(&observed.collect::<Vec<_>>(), &expected, dtype);
    let limit = same.unequal + UNEQUAL_ALLOWANCE;
    if bits.unequal > limit || bits.max_ulp_distance > 1 {
        result.pass = false;
    }
    if bits.unequal > 0.0 {
        result.note = Some(format!(
            "{:.2} % of the elements differ from Transformers' {dtype} bits (limit {:.2} %), by at most {} ulp (limit 1)",
            100.0 * bits.unequal,
            100.0 * limit,
            bits.max_ulp_distance
        ));
    }
    Ok(())
}

/// Generated ids must equal the reference's, except where its top two logits are closer together than
/// the logits' own limit allows either to move: those are ties, and reported.
fn check_ids(
    output: &Output,
    file: &TensorFile,
    previous: &[TensorResult],
) -> Result<TensorResult> {
    let array = file.read("generated_ids")?;
    let expected = array.ints("generated_ids")?;
    let observed = output.data.iter::<i64>().collect::<Vec<_>>();
    ensure!(
        shape(&output.data) == array.shape,
        "tensor `generated_ids` has shape {:?}",
        array.shape
    );
    let columns = array.shape[1];
    let margins = match file.has("margins") {
        true => Some(file.read("margins")?),
        false => None,
    };
    let margins = match &margins {
        Some(array) => match (array.floats("margins")?, &array.shape[..]) {
            (values, [_, steps]) if *steps <= columns => Some((values, columns - steps, *steps)),
            _ => bail!("tensor `margins` does not fit `generated_ids`"),
        },
        None => None,
    };
    let logits = previous.iter().find(|result| result.name == "step_logits");
    let reach = 2.0 * logits.map_or(0.0, |result| result.limit);
    let margin = |index: usize| {
        let (values, prompt, steps) = margins?;
        let column = (index % columns).checked_sub(prompt)?;
        values
            .get(index / columns * steps + column)
            .copied()
            .map(f64::from)
    };

    let (mut ties, mut wrong) = (0, None);
    for index in (0..expected.len()).filter(|index| observed[*index] != expected[*index]) {
        match margin(index) {
            Some(margin) if margin <= reach => ties += 1,
            _ => wrong = wrong.or(Some(index)),
        }
    }
    let smallest = margins.map(|(values, ..)| values.iter().copied().fold(f32::INFINITY, f32::min));
    let as_floats = |ids: &[i64]| ids.iter().map(|id| *id as f32).collect::<Vec<_>>();
    let (observed_floats, expected_floats) = (as_floats(&observed), as_floats(expected));
    let shape = array.shape.clone();
    let mut result = exact_result("generated_ids", shape, &observed_floats, &expected_floats);
    result.pass = wrong.is_none();
    let smallest = smallest.map_or(String::new(), |margin| {
        format!("; smallest margin {margin:.3e}")
    });
    result.note = Some(match wrong {
        None => format!("{ties} ties{smallest}"),
        Some(index) => format!(
            "first wrong id at [{}, {}]: {} instead of {}, margin {}",
            index / columns,
            index % columns,
            observed[index],
            expected[index],
            margin(index).map_or("unknown".into(), |margin| format!("{margin:.3e}")),
        ),
    });
    Ok(result)
}

/// Tokens that were decoded from their own predecessors `[prompts, new]` must be the reference's; a prompt's
/// first wrong one is what counts, for the others follow from it.
fn check_greedy(output: &Output, file: &TensorFile) -> Result<TensorResult> {
    let (ids, margins) = (file.read("generated_ids")?, file.read("margins")?);
    let shape = shape(&output.data);
    let [prompts, new] = shape[..] else {
        bail!("`{}` is not a matrix", output.name);
    };
    let columns = ids.shape.get(1).copied().unwrap_or(0);
    ensure!(
        ids.shape.len() == 2 && ids.shape[0] == prompts && columns > new && margins.shape == shape,
        "`generated_ids` {:?} and `margins` {:?} do not fit {prompts} x {new} tokens",
        ids.shape,
        margins.shape
    );
    let rows = ids.ints("generated_ids")?.chunks(columns);
    let expected = rows.flat_map(|row| &row[columns - new..]);
    let expected = expected.copied().collect::<Vec<_>>();
    let observed = output.data.iter::<i64>().collect::<Vec<_>>();
    let wrong = (0..prompts).filter_map(|prompt| {
        let mut row = prompt * new..(prompt + 1) * new;
        row.find(|index| observed[*index] != expected[*index])
    });
    let wrong = wrong.collect::<Vec<_>>();
    let margins = margins.floats("margins")?;
    let as_floats = |ids: &[i64]| ids.iter().map(|id| *id as f32).collect::<Vec<_>>();
    let (observed_floats, expected_floats) = (as_floats(&observed), as_floats(&expected));
    let mut result = exact_result(&output.name, shape, &observed_floats, &expected_floats);
    result.pass = wrong.is_empty();
    result.note = wrong.first().map(|index| {
        format!(
            "{} of {prompts} prompts differ; the first wrong id is at [{}, {}]: {} instead of {}, margin {:.3e}",
            wrong.len(),
            index / new,
            index % new,
            observed[*index],
            expected[*index],
            margins[*index]
        )
    });
    Ok(result)
}

/// The result for a tensor that has no noise: every limit is zero.
fn exact_result(name: &str, shape: Vec<usize>, observed: &[f32], expected: &[f32]) -> TensorResult {
    let metrics = metrics::compare(observed, expected, &shape, TestDType::F32, |_| true);
    let floor = Floor {
        max_abs: 0.0,
        rms: 0.0,
    };
    let limit = Limit {
        max_abs: 0.0,
        rms: 0.0,
    };
    tensor_result(name, shape, metrics, floor, limit, observed, expected)
}

pub(crate) fn tensor_result(
    name: &str,
    shape: Vec<usize>,
    metrics: Metrics,
    floor: Floor,
    limit: Limit,
    observed: &[f32],
    expected: &[f32],
) -> TensorResult {
    let finite = |value: f64| value.is_finite().then_some(value);
    let worst = metrics
        .max_abs_index
        .iter()
        .zip(&shape)
        .fold(0, |flat, (index, size)| flat * size + index);
    let at = |values: &[f32]| {
        values
            .get(worst)
            .and_then(|value| finite(f64::from(*value)))
    };
    TensorResult {
        name: name.into(),
        mse: finite(metrics.mse),
        max_abs: finite(metrics.max_abs),
        relative: finite(metrics.relative),
        cosine: finite(metrics.cosine),
        nmse: finite(metrics.nmse),
        max_ulp: finite(metrics.max_ulp),
        rms: finite(metrics.rms),
        noise_floor: floor.max_abs,
        limit: limit.max_abs,
        noise_floor_rms: floor.rms,
        limit_rms: limit.rms,
        expected: at(expected),
        observed: at(observed),
        pass: metrics.within(&limit),
        max_abs_index: metrics.max_abs_index,
        shape,
        note: None,
    }
}

fn shape(data: &TensorData) -> Vec<usize> {
    data.shape().to_vec()
}

fn floats(data: &TensorData) -> Result<Vec<f32>> {
    Ok(data.iter::<f32>().collect())
}
