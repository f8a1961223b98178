//! Tensors as PyTorch prints them, where nothing is left out.

use half::{bf16, f16};

use super::Stored;
use super::decode::Element;

/// What helps where something is.
const INSTEAD: &str = "record with use_repr=False";

/// The values of a tensor of `shape` and of PyTorch's `dtype`, printed as `tensor([[1.2345e-01, ..`.
pub(super) fn parse(text: &str, dtype: &str, shape: Vec<usize>) -> Result<Stored, String> {
    let body = text.trim().strip_prefix("tensor(").ok_or("not printed as a tensor is")?;
    // Behind the values: dtype, device, gradient.
    let end = body.rfind(']').map_or_else(|| body.find([',', ')']), |last| Some(last + 1));
    let body = &body[..end.ok_or("not printed as a tensor is")?];
    if body.contains("..") {
        return Err(format!("printed with values left out (`...`): {INSTEAD}"));
    }
    let words: Vec<_> = body.split(['[', ']', ',', ' ', '\n']).filter(|word| !word.is_empty()).collect();
    let count = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    if count != Some(words.len()) {
        return Err(format!("{} printed values are not those of shape {shape:?}", words.len()));
    }
    let no_value = |word: &str| format!("`{}` is no value of {dtype}", word.escape_debug());
    if let Some((element, needed)) = float_of(dtype) {
        // As many digits as are needed give the value that was printed when they are rounded to its dtype.
        let bytes = |value: f64| match element {
            Element::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
            Element::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
            Element::F32 => (value as f32).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        let values = words.iter().map(|word| float(word, needed).ok_or_else(|| no_value(word))?);
        let bytes = values.map(|value| value.map(bytes)).collect::<Result<Vec<_>, _>>()?.concat();
        return Ok(Stored { element, shape, bytes });
    }
    let ints = words.iter().map(|word| match *word {
        "True" => Ok(1),
        "False" => Ok(0),
        word => word.parse::<i64>().map_err(|_| no_value(word)),
    });
    let bytes = ints.map(|value| value.map(i64::to_le_bytes)).collect::<Result<Vec<_>, _>>()?.concat();
    Ok(Stored { element: Element::I64, shape, bytes })
}

/// A floating-point dtype, and the decimal digits that tell any two of its values apart.
fn float_of(dtype: &str) -> Option<(Element, usize)> {
    match dtype {
        "bfloat16" => Some((Element::BF16, 4)),
        "float16" => Some((Element::F16, 5)),
        "float32" => Some((Element::F32, 9)),
        "float64" => Some((Element::F64, 17)),
        _ => None,
    }
}

/// The value of a word; nothing of what is none, an error with fewer digits than are `needed`.
fn float(word: &str, needed: usize) -> Option<Result<f64, String>> {
    let value: f64 = word.parse().ok()?;
    let mantissa = word.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.chars().filter(char::is_ascii_digit);
    // Zeros in front tell nothing, unless there is nothing else.
    let digits = if value == 0.0 { digits.count() } else { digits.skip_while(|digit| *digit == '0').count() };
    if value.is_finite() && digits < needed {
        return Some(Err(format!("printed with {digits} digits of at least {needed}: {INSTEAD}")));
    }
    Some(Ok(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor_file::decode::decode;

    fn parsed(text: &str, dtype: &str, shape: &[usize]) -> Vec<f32> {
        let array = decode("a".as_ref(), "x", parse(text, dtype, shape.into()).unwrap()).unwrap();
        assert_eq!(array.shape, shape);
        array.floats("x").unwrap().to_vec()
    }

    #[test]
    fn what_is_printed_in_full_is_read() {
        let text = "tensor([[[-4.4922e-01, 2.0312e+00],\n         [ 0.0000e+00, 3.2715e-02]]], dtype=torch.bfloat16)";
        assert_eq!(parsed(text, "bfloat16", &[1, 2, 2]), [-0.44921875, 2.03125, 0.0, 0.032_714_844]);
        assert_eq!(parsed("tensor(3.3325e-01, grad_fn=<A>)", "float16", &[]), [0.33325195]);
        assert_eq!(parsed("tensor([1.00000001e-01])", "float32", &[1]), [0.1]);
        let odd = parsed("tensor([inf, -inf, nan])", "float32", &[3]);
        assert!(odd[0] == f32::INFINITY && odd[1] == f32::NEG_INFINITY && odd[2].is_nan());
        let ints = parse("tensor([[1, -2]])", "int64", vec![1, 2]).unwrap();
        assert_eq!((ints.element, ints.bytes), (Element::I64, [1_i64, -2].map(i64::to_le_bytes).concat()));
        let flags = parse("tensor([True, False])", "bool", vec![2]).unwrap();
        assert_eq!(flags.bytes, [1_i64, 0].map(i64::to_le_bytes).concat());
        assert_eq!(parse("tensor([], size=(0, 3))", "float32", vec![0, 3]).unwrap().bytes, [0; 0]);
    }

    #[test]
    fn what_is_not_is_refused() {
        for (text, dtype, shape, reason) in [
            ("tensor([1.0000e+00, ..., 2.0000e+00])", "bfloat16", &[9][..], "left out"),
            ("tensor([1.2345e+00])", "float32", &[1], "5 digits of at least 9: record with use_repr=False"),
            ("tensor([0.0001])", "float16", &[1], "1 digits"),
            ("tensor([1.0000e+00])", "bfloat16", &[2], "1 printed values are not those of shape [2]"),
            ("tensor([1.0000e+00, x])", "bfloat16", &[2], "`x` is no value of bfloat16"),
            ("tensor([1.5])", "int64", &[1], "`1.5` is no value of int64"),
            ("tensor([1])", "int64", &[usize::MAX, 2], "not those of shape"),
            ("DTensor(non-rank0)", "float32", &[1], "not printed as a tensor is"),
            ("tensor(", "float32", &[1], "not printed as a tensor is"),
        ] {
            let error = parse(text, dtype, shape.into()).err().unwrap();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
