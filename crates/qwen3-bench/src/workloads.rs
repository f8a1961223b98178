//! What is measured for given sizes, and with which tokens.

use qwen3_command::BenchSizes;
use qwen3_report::bench::{Phase, Workload};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Everything measured after loading, in order: the first token and the prefill of each prompt, decoding at each
/// context, and several sequences side by side at the first.
pub fn workloads(sizes: &BenchSizes) -> Vec<Workload> {
    let mut all = Vec::new();
    let mut add = |workload| {
        if !all.contains(&workload) {
            all.push(workload);
        }
    };
    for &tokens in &sizes.prompt {
        for phase in [Phase::FirstToken, Phase::Prefill] {
            add(Workload { phase, tokens, context: 0, batch: 1 });
        }
    }
    let decode = |context, batch| Workload { phase: Phase::Decode, tokens: sizes.generate, context, batch };
    for &context in &sizes.context {
        add(decode(context, 1));
    }
    for (&context, &batch) in
        sizes.context.iter().take(1).flat_map(|c| sizes.batch.iter().map(move |b| (c, b)))
    {
        add(decode(context, batch));
    }
    all
}

/// `count` random tokens; the same for the same `seed`.
///
/// # Panics
/// When the vocabulary is empty.
pub fn tokens(seed: u64, count: usize, vocab_size: usize) -> Vec<u32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(0..vocab_size) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_once() {
        let sizes = BenchSizes {
            prompt: vec![8, 8, 16],
            generate: 4,
            context: vec![32, 64],
            batch: vec![1, 3],
            runs: 1,
            threads: None,
            seed: 0,
        };
        let named: Vec<_> = workloads(&sizes).iter().map(ToString::to_string).collect();
        assert_eq!(
            named,
            [
                "first token after 8",
                "prefill of 8",
                "first token after 16",
                "prefill of 16",
                "decode of 4 at 32, batch 1",
                "decode of 4 at 64, batch 1",
                "decode of 4 at 32, batch 3",
            ]
        );
    }

    #[test]
    fn tokens_are_of_the_vocabulary_and_of_the_seed() {
        assert!(tokens(1, 1000, 3).iter().all(|id| *id < 3));
        assert_eq!(tokens(1, 50, 1000), tokens(1, 50, 1000));
        assert_ne!(tokens(1, 50, 1000), tokens(2, 50, 1000));
    }
}
