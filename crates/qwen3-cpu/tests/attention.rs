//! Attention of every instruction set against float64.

mod common;

use common::{all_kernels, epsilon, numbers, wide};
use half::{bf16, f16};
use proptest::prelude::*;
use qwen3_cpu::{Attention, Element, View};

/// What everything is in f64; also the size of the values that a row sees, which bounds its error.
fn expected(a: &Attention, q: [&[f64]; 3], strides: [[usize; 3]; 3]) -> Vec<(f64, f64)> {
    let [q, k, v] = q;
    let at =
        |strides: [usize; 3], b: usize, h: usize, t: usize| b * strides[0] + h * strides[1] + t * strides[2];
    let mut out = Vec::new();
    for b in 0..a.batch {
        for query in 0..a.queries {
            for h in 0..a.heads {
                let kv = h / (a.heads / a.kv_heads);
                let slot = a.start + query;
                let sees = |key: &usize| {
                    a.visible.get(b).is_none_or(|visible| visible[*key])
                        && a.window.is_none_or(|window| slot - key < window)
                };
                let keys: Vec<usize> = (0..=slot).filter(sees).collect();
                let q = &q[at(strides[0], b, h, query)..][..a.head_dim];
                let score = |key: &usize| {
                    let k = &k[at(strides[1], b, kv, *key)..][..a.head_dim];
                    q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * f64::from(a.scale)
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for feature in 0..a.head_dim {
                    let value = |key: &usize| v[at(strides[2], b, kv, *key) + feature];
                    let terms = keys.iter().zip(&weights).map(|(key, weight)| weight / total * value(key));
                    let size = keys.iter().map(|key| value(key).abs()).fold(0.0, f64::max);
                    out.push((terms.sum(), size));
                }
            }
        }
    }
    out
}

fn check<E: Element>(a: &Attention, capacity: usize) {
    let Attention { batch, heads, kv_heads, head_dim, queries, .. } = *a;
    let q = numbers::<E>(batch * queries * heads * head_dim, 1);
    let q: Vec<E> = q.iter().map(|q| E::narrow(q.widen() * 4.0)).collect();
    let cache = |seed| {
        let mut cache = numbers::<E>(batch * kv_heads * capacity * head_dim, seed);
        // What lies behind the last slot must not be looked at.
        for head in cache.chunks_exact_mut(capacity * head_dim) {
            head[(a.start + queries) * head_dim..].fill(E::narrow(f32::NAN));
        }
        cache
    };
    let (k, v) = (cache(2), cache(3));
    let q_view = View::of_tokens(&q, [queries, heads, head_dim]);
    let k_view = View::of_heads(&k, [kv_heads, capacity, head_dim]);
    let v_view = View::of_heads(&v, [kv_heads, capacity, head_dim]);
    let strides = [q_view.strides, k_view.strides, v_view.strides];
    let expected = expected(a, [&wide(&q), &wide(&k), &wide(&v)], strides);
    for kernels in all_kernels() {
        let set = kernels.instruction_set();
        let mut out = vec![E::narrow(f32::NAN); q.len()];
        kernels.attend(a, q_view, k_view, v_view, &mut out);
        for (index, (found, (expected, size))) in wide(&out).iter().zip(&expected).enumerate() {
            // A score is off by f32's rounding of its size, and its weight by as much.
            let limit = 1.01 * epsilon::<E>() * expected.abs() + 1e-5 * size * f64::from(1.0 + a.scale);
            assert!((found - expected).abs() <= limit, "{set}, {a:?}: {index}: {found} for {expected}");
        }
    }
}

fn usual<'a>() -> Attention<'a> {
    Attention {
        batch: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        queries: 1,
        start: 0,
        visible: &[],
        window: None,
        scale: 0.25,
    }
}

/// Slots of which those from a first to before an end of `tokens` are no padding.
fn padded(tokens: &[(usize, usize)], slots: usize) -> Vec<bool> {
    (0..slots).map(|slot| tokens.iter().any(|(first, end)| (*first..*end).contains(&slot))).collect()
}

fn all_dtypes(a: &Attention, capacity: usize) {
    check::<f32>(a, capacity);
    check::<bf16>(a, capacity);
    check::<f16>(a, capacity);
}

#[test]
fn one_query_over_short_and_long_caches() {
    for start in [0, 1, 63, 64, 65, 200, 2000] {
        all_dtypes(&Attention { start, head_dim: 128, scale: 0.088, ..usual() }, start + 3);
        all_dtypes(&Attention { start, batch: 2, head_dim: 6, ..usual() }, start + 1);
        all_dtypes(&Attention { start, heads: 16, ..usual() }, start + 1);
    }
}

#[test]
fn one_head_over_a_long_cache_is_split() {
    for window in [None, Some(300), Some(1)] {
        let visible = &[padded(&[(700, 3001)], 3001)];
        all_dtypes(&Attention { start: 3000, heads: 2, kv_heads: 1, window, visible, ..usual() }, 3001);
    }
}

#[test]
fn many_queries() {
    for (start, queries) in [(0, 5), (0, 64), (7, 130), (100, 70), (0, 300)] {
        all_dtypes(&Attention { start, queries, ..usual() }, start + queries + 2);
        all_dtypes(&Attention { start, queries, window: Some(40), head_dim: 10, ..usual() }, start + queries);
    }
}

#[test]
fn padding_is_not_seen_and_queries_in_it_get_zeros() {
    for queries in [1, 3, 90] {
        let slots = 5 + queries;
        let visible = &[0, 2, 95].map(|first| padded(&[(first, slots)], slots));
        let a = Attention { batch: 3, queries, start: 5, visible, ..usual() };
        all_dtypes(&a, 5 + queries);
        for kernels in all_kernels() {
            let q = numbers::<f32>(3 * queries * 64, 1);
            let kv = numbers::<f32>(3 * 2 * (5 + queries) * 16, 2);
            let mut out = vec![f32::NAN; q.len()];
            let kv = View::of_heads(&kv, [2, 5 + queries, 16]);
            kernels.attend(&a, View::of_tokens(&q, [queries, 4, 16]), kv, kv, &mut out);
            assert!(out[2 * queries * 64..].iter().take(90.min(queries) * 64).all(|out| *out == 0.0));
        }
    }
}

/// As after a second turn of conversations of unequal length.
#[test]
fn padding_between_tokens_is_not_seen() {
    for (start, queries) in [(300, 1), (2000, 1), (290, 30), (0, 310)] {
        let slots = start + queries;
        let visible = &[
            padded(&[(0, 3), (100, slots)], slots),
            padded(&[(5, 64), (200, 280), (285, slots)], slots),
            padded(&[(0, slots)], slots),
        ];
        for window in [None, Some(150)] {
            all_dtypes(&Attention { batch: 3, start, queries, visible, window, ..usual() }, slots);
        }
    }
}

/// Scores of a thousand: their exponentials have no number in f32.
#[test]
fn large_scores_do_not_overflow() {
    all_dtypes(&Attention { scale: 200.0, start: 400, ..usual() }, 401);
    all_dtypes(&Attention { scale: 200.0, queries: 100, ..usual() }, 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape(
        batch in 1usize..4, kv_heads in 1usize..3, groups in 1usize..5, half in 1usize..20,
        queries in 1usize..80, start in 0usize..150, window in proptest::option::of(1usize..90),
        padding in 0usize..100,
    ) {
        let slots = start + queries;
        let visible = vec![padded(&[(padding, padding + 9), (padding + 20, slots)], slots); batch];
        let a = Attention {
            batch, kv_heads, heads: kv_heads * groups, head_dim: 2 * half, queries, start, window,
            visible: &visible, scale: 0.3,
        };
        all_dtypes(&a, start + queries);
    }
}
