use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// ChaCha12 whose key is the seed, eight bytes little-endian and then zeros: by its definition the same
/// numbers on every platform and in every version.
pub(crate) fn generator(seed: u64) -> ChaCha12Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha12Rng::from_seed(key)
}

/// The token with the largest logit, of equal ones the first, as `torch.argmax`. Panics without logits.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// Draws a token with its softmax probability: one random number, and the first token at which the
/// probabilities of it and all before it exceed that. `None` when every logit is negative infinity.
pub(crate) fn draw(logits: &[f32], random: &mut ChaCha12Rng) -> Option<u32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return None;
    }
    let weight = |logit: f32| f64::from((logit - largest).exp());
    let kept = || logits.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    let total: f64 = kept().map(|(_, &logit)| weight(logit)).sum();
    // 53 bits, all that a float64 below 1 can tell apart.
    let share = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = share * total;
    let mut last = 0;
    for (id, &logit) in kept() {
        let weight = weight(logit);
        if weight > 0.0 {
            last = id;
        }
        if left < weight {
            break;
        }
        left -= weight;
    }
    Some(last as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals() {
        assert_eq!(argmax(&[1.0, 2.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 2]), 0);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.7f32.ln(), f32::NEG_INFINITY, 0.2f32.ln(), 0.1f32.ln()];
        let mut random = generator(7);
        let mut counts = [0u32; 4];
        for _ in 0..20_000 {
            counts[draw(&logits, &mut random).unwrap() as usize] += 1;
        }
        for (count, share) in counts.into_iter().zip([0.7, 0.0, 0.2, 0.1]) {
            // Five standard deviations.
            let deviation = f64::sqrt(20_000.0 * share * (1.0 - share));
            assert!((f64::from(count) - 20_000.0 * share).abs() <= 5.0 * deviation, "{counts:?}");
        }
        assert_eq!(draw(&[f32::NEG_INFINITY], &mut random), None);
    }

    #[test]
    fn the_stream_never_changes() {
        // From ChaCha12 written down in Python after its definition.
        let mut random = generator(1);
        let drawn: Vec<u32> = (0..8).map(|_| draw(&[0.0; 1000], &mut random).unwrap()).collect();
        assert_eq!(drawn, [963, 37, 60, 65, 884, 996, 949, 750]);
    }
}
