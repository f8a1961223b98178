//! A block of experts against the same sum written out, expert by expert and token by token.
#![cfg(feature = "flex")]

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
use qwen3_model::{
    Experts, FeedForward, FeedForwardKind, Observed, Qwen3Config, RandomWeights, Site, SparseMoeBlock, Tap,
    Taps,
};

const HIDDEN: usize = 64;

fn block(experts: Experts) -> SparseMoeBlock {
    let mut source = RandomWeights::new(5, &Device::flex(), DType::F32);
    let kind = FeedForwardKind::Sparse(experts);
    match FeedForward::build(&mut source, "mlp", &Qwen3Config::tiny(), kind).unwrap() {
        FeedForward::Sparse(block) => block,
        FeedForward::Dense(_) => panic!("it was to have experts"),
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn input(tokens: usize) -> Tensor<3> {
    let value = |index: usize| ((index * index % 89) as f32 / 44.0 - 1.0) * (1.0 + index as f32 / 300.0);
    let data = TensorData::new((0..tokens * HIDDEN).map(value).collect::<Vec<_>>(), [1, tokens, HIDDEN]);
    Tensor::from_data(data, &Device::flex())
}

/// What each token's experts give, every expert computed for every token.
fn written_out(block: &SparseMoeBlock, x: &Tensor<3>) -> Vec<f32> {
    let tokens = x.dims()[1];
    let rows = x.clone().reshape([tokens, HIDDEN]);
    let probabilities = values(softmax(block.gate.forward(rows.clone()), 1));
    let outputs: Vec<Vec<f32>> =
        block.experts.iter().map(|expert| values(expert.forward_tokens(rows.clone()))).collect();
    let mut sums = vec![0.0; tokens * HIDDEN];
    for (token, sum) in sums.chunks_mut(HIDDEN).enumerate() {
        let own = &probabilities[token * block.experts.len()..(token + 1) * block.experts.len()];
        let mut order: Vec<usize> = (0..own.len()).collect();
        order.sort_by(|a, b| own[*b].total_cmp(&own[*a]));
        let chosen = &order[..block.per_token];
        let total: f32 = chosen.iter().map(|expert| own[*expert]).sum();
        for expert in chosen {
            let weight = if block.normalised { own[*expert] / total } else { own[*expert] };
            let output = &outputs[*expert][token * HIDDEN..(token + 1) * HIDDEN];
            sum.iter_mut().zip(output).for_each(|(sum, output)| *sum += weight * output);
        }
    }
    sums
}

#[test]
fn only_the_chosen_experts_are_added_up() {
    for (count, per_token, tokens) in [(8, 2, 17), (8, 2, 1), (5, 5, 4), (3, 1, 6), (1, 1, 3)] {
        for normalised in [false, true] {
            let block = block(Experts { count, per_token, intermediate_size: 24, normalised });
            let x = input(tokens);
            let found = values(block.forward(x.clone(), &mut Taps::none()));
            let expected = written_out(&block, &x);
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-5 * largest, "{found} instead of {expected}");
            }
        }
    }
}

/// Batches are no matter: a token's experts are its own.
#[test]
fn the_taps_tell_each_tokens_experts() {
    let experts = Experts { count: 8, per_token: 3, intermediate_size: 24, normalised: true };
    let block = block(experts);
    let mut seen: Vec<(Tap, [usize; 3], Vec<f32>)> = Vec::new();
    let mut observe = |site: Site, value: Observed| match value {
        Observed::Rank3(value) => seen.push((site.tap, value.dims(), values(value))),
        Observed::Rank4(_) => panic!("no heads here"),
    };
    let x = input(6).reshape([2, 3, HIDDEN]);
    block.forward(x, &mut Taps::new(&mut observe));
    let taps: Vec<_> = seen.iter().map(|(tap, dims, _)| (*tap, *dims)).collect();
    let dims = [2, 3, 8];
    assert_eq!(taps, [Tap::RouterLogits, Tap::ChosenExperts, Tap::ExpertWeights].map(|tap| (tap, dims)));
    for token in 0..6 {
        let of = |tap: usize| &seen[tap].2[token * 8..(token + 1) * 8];
        let (logits, chosen, weights) = (of(0), of(1), of(2));
        assert_eq!(chosen.iter().sum::<f32>(), 3.0);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let least = (0..8).filter(|e| chosen[*e] == 1.0).map(|e| logits[e]).fold(f32::INFINITY, f32::min);
        for expert in 0..8 {
            assert_eq!(chosen[expert] == 1.0, logits[expert] >= least);
            assert_eq!(chosen[expert] == 1.0, weights[expert] > 0.0);
        }
    }
}
