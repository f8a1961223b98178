//! What a token needs at least.

use qwen3_config::{Precision, Qwen3Config};
use qwen3_report::bench::{Limits, Phase, Workload};

/// What has to be read and computed for one token, on average over a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bytes of weights and cache; weights are read once for all the tokens of a pass.
    pub bytes: f64,
    /// Operations; a multiplication and its addition are two.
    pub flop: f64,
}

impl Work {
    /// That of a token of `workload`; `None` where tokens are not what it is about.
    ///
    /// A layer's matrices and the head are read and multiplied, of the embedding a row is read, and of the cache
    /// every key and value before the token. Norms and rotations are left out: they are a thousandth. Of experts,
    /// those of one token are counted, which is the least that several read.
    pub fn of(config: &Qwen3Config, dtype: Precision, workload: Workload) -> Option<Self> {
        let Workload { phase, tokens, context, batch } = workload;
        let (tokens, context, batch) = (tokens as f64, context as f64, batch as f64);
        let vocabulary = config.vocab_size as f64 * config.hidden_size as f64;
        let matrices = if config.tie_word_embeddings { 1.0 } else { 2.0 };
        let layers = config.num_active_parameters() as f64 - matrices * vocabulary;
        let depth = config.num_hidden_layers as f64;
        let queries = depth * (config.num_attention_heads * config.head_dim) as f64;
        let cache = 2.0 * depth * (config.num_key_value_heads * config.head_dim) as f64;
        let size = dtype.bytes() as f64;
        // A token sees itself and what is before it.
        let keys = context + (tokens + 1.0) / 2.0;
        let attention = 4.0 * queries * keys;
        match phase {
            Phase::Load | Phase::FirstToken => None,
            Phase::Prefill => Some(Self {
                bytes: size * (layers + vocabulary + cache * tokens) / tokens,
                flop: 2.0 * layers + attention + 2.0 * vocabulary / tokens,
            }),
            Phase::Decode => Some(Self {
                bytes: size * ((layers + vocabulary) / batch + cache * keys),
                flop: 2.0 * (layers + vocabulary) + attention,
            }),
        }
    }

    /// The most tokens per second that the machine's limits allow `backend` in `dtype`.
    pub fn most(&self, limits: &Limits, backend: &str, dtype: Precision) -> Option<f64> {
        let memory = limits.bytes_per_second(backend, dtype).map(|rate| rate / self.bytes);
        let compute = limits.flop_per_second(backend, dtype).map(|rate| rate / self.flop);
        [memory, compute].into_iter().flatten().reduce(f64::min)
    }
}

#[cfg(test)]
mod tests {
    use qwen3_report::bench::Pages;

    use super::*;

    fn decode(context: usize, batch: usize) -> Workload {
        Workload { phase: Phase::Decode, tokens: 1, context, batch }
    }

    #[test]
    fn a_step_reads_every_weight_once() {
        let config = Qwen3Config::tiny();
        let bytes = |workload| Work::of(&config, Precision::BF16, workload).unwrap().bytes;
        let weights = 2.0 * config.num_parameters() as f64;
        let token =
            2.0 * (2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim) as f64;
        assert_eq!(bytes(decode(0, 1)), weights + token);
        assert_eq!(bytes(decode(9, 1)), weights + 10.0 * token);
        assert_eq!(bytes(decode(0, 4)), weights / 4.0 + token);
        let untied = Qwen3Config { tie_word_embeddings: false, ..config };
        let again = Work::of(&untied, Precision::BF16, decode(0, 1)).unwrap().bytes;
        assert_eq!(again, weights + token, "of an untied embedding a row is read");
    }

    #[test]
    fn the_narrower_limit_counts() {
        let config = Qwen3Config::tiny();
        let work = Work::of(&config, Precision::F32, decode(0, 1)).unwrap();
        let mut limits = Limits {
            read_gb_per_s: [(Pages::Ordinary, 1.0), (Pages::Huge, 2.0)].into(),
            ..Limits::default()
        };
        assert_eq!(work.most(&limits, "flex", Precision::F32), Some(2e9 / work.bytes));
        limits.matmul_gflop_per_s.insert(Precision::F32, 1e-3);
        assert_eq!(work.most(&limits, "flex", Precision::F32), Some(1e6 / work.flop));
        assert_eq!(work.most(&Limits::default(), "flex", Precision::F32), None);
        assert_eq!(Work::of(&config, Precision::F32, Workload::LOAD), None);
    }
}
