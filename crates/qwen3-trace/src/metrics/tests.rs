use super::*;
use qwen3_config::Precision::{BF16, F16, F32};

fn all(observed: &[f32], expected: &[f32]) -> Metrics {
    compare(observed, expected, &[expected.len()], F32, |_| true)
}

#[test]
fn every_metric_of_a_small_example() {
    let metrics = compare(&[3.0, 0.5, 0.0, 4.0], &[3.0, 0.0, 0.0, 2.0], &[2, 2], F32, |_| true);
    assert_eq!(metrics.mse, (0.25 + 4.0) / 4.0);
    assert_eq!(metrics.rms, metrics.mse.sqrt());
    assert_eq!(metrics.max_abs, 2.0);
    assert_eq!(metrics.max_abs_index, [1, 1]);
    assert!((metrics.relative - (4.25_f64 / 13.0).sqrt()).abs() < 1e-15);
    assert!((metrics.nmse - 4.25 / 13.0).abs() < 1e-15);
    assert!((metrics.cosine - 17.0 / (25.25_f64.sqrt() * 13_f64.sqrt())).abs() < 1e-15);
    assert_eq!(metrics.max_ulp, 0.5 / f64::from(f32::from_bits(1)));
    assert_eq!(metrics.non_finite, 0);
}

#[test]
fn the_index_is_that_of_the_first_largest_error() {
    let mut observed = vec![0.0; 24];
    (observed[17], observed[20]) = (-1.0, 1.0);
    let metrics = compare(&observed, &[0.0; 24], &[2, 3, 4], F32, |_| true);
    assert_eq!(metrics.max_abs_index, [1, 1, 1]);
    assert!(compare(&[1.0], &[1.0], &[], F32, |_| true).max_abs_index.is_empty());
}

#[test]
fn ulps_are_those_of_the_dtype() {
    let of = |dtype| compare(&[1.0 + 1.0 / 128.0], &[1.0], &[1], dtype, |_| true).max_ulp;
    assert_eq!([of(BF16), of(F16), of(F32)], [1.0, 8.0, 65536.0]);
}

#[test]
fn zero_norms() {
    let both = all(&[0.0, -0.0], &[0.0, 0.0]);
    assert_eq!((both.relative, both.cosine, both.nmse), (0.0, 1.0, 0.0));
    let expected = all(&[0.0, 1.0], &[0.0, 0.0]);
    assert_eq!((expected.relative, expected.cosine, expected.nmse), (f64::INFINITY, 0.0, f64::INFINITY));
    let observed = all(&[0.0, 0.0], &[0.0, 1.0]);
    assert_eq!((observed.relative, observed.cosine, observed.nmse), (1.0, 0.0, 1.0));
}

#[test]
fn only_what_counts_counts() {
    let metrics = compare(&[f32::NAN, 1.0, 9.0], &[0.0, 1.5, 0.0], &[3], F32, |index| index == 1);
    assert_eq!((metrics.non_finite, metrics.max_abs, metrics.mse), (0, 0.5, 0.25));
    let (name, shape) = ("x", &[2][..]);
    let compared = crate::Compared { name, shape, observed: &[100.0, 1.0], expected: &[100.0, 1.0] };
    let of = |counted: fn(usize) -> bool| compared.judge(Floor::default(), F32, counted);
    assert_eq!(of(|index| index == 1).limit, ULPS * F32.epsilon());
    assert_eq!(of(|index| index == 1).limit_rms, ULPS_RMS * F32.epsilon());
    assert!(of(|_| true).limit > of(|index| index == 1).limit);
}

#[test]
fn non_finite_values_fail_and_stay_valid_json() {
    let wide = Limit { max_abs: f64::INFINITY, rms: f64::INFINITY };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (observed, expected) in [([9.0, bad, 0.0, bad], [0.0; 4]), ([0.0; 4], [9.0, bad, 0.0, bad])] {
            let metrics = compare(&observed, &expected, &[2, 2], F32, |_| true);
            assert_eq!((metrics.non_finite, metrics.max_abs), (2, f64::INFINITY));
            assert_eq!(metrics.max_abs_index, [0, 1]);
            assert!(metrics.ratio(&wide) > 1.0);
            let (name, shape) = ("x", &[2, 2][..]);
            let (observed, expected) = (&observed[..], &expected[..]);
            let compared = crate::Compared { name, shape, observed, expected };
            let verdict = compared.judge(Floor::default(), F32, |_| true);
            assert!(!verdict.pass);
            let json = serde_json::to_value(&verdict).unwrap();
            assert!(json["max_abs"].is_null() && json["mse"].is_null() && json["cosine"].is_null());
        }
    }
}

#[test]
fn comparing_nothing_does_not_pass() {
    let metrics = compare(&[1.0], &[1.0], &[1], F32, |_| false);
    assert!(metrics.max_abs.is_nan() && metrics.rms.is_nan() && metrics.max_abs_index.is_empty());
    let wide = Limit { max_abs: 1.0, rms: 1.0 };
    assert!(metrics.ratio(&wide) > 1.0);
}

#[test]
fn limits_follow_floor_and_format() {
    let floor = Floor { max_abs: 0.5, rms: 0.25 };
    let found = limit(floor, &[-4.0, 3.0], F16);
    assert_eq!(found.max_abs, MAX_ABS_FACTOR * 0.5 + ULPS * F16.epsilon() * 4.0);
    assert_eq!(found.rms, RMS_FACTOR * 0.25 + ULPS_RMS * F16.epsilon() * 12.5_f64.sqrt());
}

#[test]
fn both_errors_have_to_be_within() {
    let metrics = all(&[1.0, 0.0, 0.0, 0.0], &[0.0; 4]);
    let within = |max_abs, rms| metrics.ratio(&Limit { max_abs, rms }) <= 1.0;
    assert!(within(1.0, 0.5));
    assert!(!within(0.999, 0.5));
    assert!(!within(1.0, 0.499));
    assert!(!within(f64::NAN, 0.5));
}

#[test]
#[should_panic(expected = "shape [3]")]
fn lengths_have_to_match() {
    compare(&[0.0, 0.0], &[0.0, 0.0], &[3], F32, |_| true);
}

#[test]
fn steps_between_bit_patterns() {
    let of = |a: &[u16], e: &[u16], dtype| {
        let found = same_dtype(a, e, dtype);
        (found.unequal, found.max_ulp_distance)
    };
    assert_eq!(of(&[0x8000, 0], &[0, 0x8000], F16), (0.0, 0));
    assert_eq!(of(&[0x8001], &[0x0002], BF16), (1.0, 3));
    assert_eq!(of(&[0x3c00, 0x3c00, 0x3bff, 0xbc02], &[0x3c00, 0x3c01, 0x3c00, 0xbc00], F16), (0.75, 2));
    assert_eq!(of(&[0x7bff], &[0xfbff], F16), (1.0, 2 * 0x7bff));
    for bits in [0x7c00, 0xfc00, 0x7e00] {
        assert_eq!(of(&[bits], &[0x7bff], F16), (1.0, u32::MAX));
        assert_eq!(of(&[bits], &[bits], F16), (1.0, u32::MAX));
        assert_eq!(of(&[bits], &[bits], BF16), (0.0, 0));
    }
    assert_eq!(of(&[0x7f80], &[0x7f7f], BF16), (1.0, u32::MAX));
}

#[test]
#[should_panic(expected = "0 expected")]
fn steps_need_elements() {
    same_dtype(&[], &[], F16);
}

#[test]
#[should_panic(expected = "in f32")]
fn steps_need_a_format_of_16_bits() {
    same_dtype(&[0], &[0], F32);
}
