//! The generated ids of a run as one tensor among the others.

use crate::ids::exact;
use crate::{LayerVerdict, Mode, TokenVerdict, Verdict};

/// The verdict on all `tokens` of a run, as a tensor `generated_ids` of shape `[rows, steps]`; `None` without any.
///
/// It passes when every token does. Its error over limit is that of the token that is furthest from a tie, and its worst
/// element the first token that is wrong, else the first that differs.
pub fn generated_ids(tokens: &[TokenVerdict]) -> Option<LayerVerdict> {
    let last = tokens.last()?;
    let differs = |token: &&TokenVerdict| i64::from(token.expected) != token.observed;
    let wrong = tokens.iter().find(|token| !token.passes());
    let worst = wrong.or_else(|| tokens.iter().find(differs)).unwrap_or(&tokens[0]);
    let expected: Vec<i64> = tokens.iter().map(|token| token.expected.into()).collect();
    let observed: Vec<i64> = tokens.iter().map(|token| token.observed).collect();
    let compared = exact("generated_ids", &[tokens.len()], &observed, &expected);
    let ratios: Option<Vec<f64>> = tokens.iter().filter(differs).map(|token| token.ratio).collect();
    let verdict = Verdict {
        shape: vec![last.row + 1, last.steps.max(last.step + 1)],
        max_abs_index: vec![worst.row, worst.step],
        expected: Some(worst.expected.into()),
        observed: Some(worst.observed as f64),
        pass: wrong.is_none(),
        note: wrong.map(TokenVerdict::place),
        ..compared
    };
    Some(LayerVerdict {
        mode: Mode::Accumulated,
        layer: None,
        derived: false,
        ratio: ratios.map(|ratios| ratios.into_iter().fold(0.0, f64::max)),
        calibrated: 0.0,
        by_step: None,
        sensitivity: None,
        neighbours: None,
        kl_divergence: None,
        top1_agreement: None,
        regret_nats: None,
        verdict,
    })
}

impl TokenVerdict {
    /// Where it is, counted from 1, as the first that is wrong: `first wrong at step 9 of 20`.
    pub fn place(&self) -> String {
        let row = if self.row == 0 { String::new() } else { format!(" of row {}", self.row + 1) };
        let of = if self.steps == 0 { String::new() } else { format!(" of {}", self.steps) };
        format!("first wrong at step {}{of}{row}", self.step + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(step: usize, expected: u32, observed: i64, ratio: Option<f64>) -> TokenVerdict {
        TokenVerdict {
            row: 0,
            step,
            position: step,
            expected,
            observed,
            margin: None,
            tie: i64::from(expected) != observed && ratio.is_some_and(|ratio| ratio <= 1.0),
            kl_divergence: None,
            regret_nats: None,
            steps: 20,
            ratio,
            expected_text: None,
            observed_text: None,
        }
    }

    #[test]
    fn ids_have_a_verdict_like_any_tensor() {
        assert!(generated_ids(&[]).is_none());
        let right = generated_ids(&[token(0, 7, 7, Some(0.0)), token(1, 8, 8, Some(0.0))]).unwrap();
        assert_eq!((right.verdict.pass, right.ratio, right.verdict.mse), (true, Some(0.0), Some(0.0)));
        let tie = generated_ids(&[token(0, 7, 7, Some(0.0)), token(1, 8, 9, Some(0.4))]).unwrap();
        assert_eq!((tie.verdict.pass, tie.ratio, tie.verdict.note), (true, Some(0.4), None));
        let wrong = [token(0, 7, 7, None), token(1, 8, 9, Some(0.4)), token(8, 5, 6, Some(31.0))];
        let wrong = generated_ids(&wrong).unwrap();
        assert_eq!((wrong.verdict.pass, wrong.ratio), (false, Some(31.0)));
        assert_eq!((wrong.verdict.shape, wrong.verdict.max_abs_index), (vec![1, 20], vec![0, 8]));
        assert_eq!(wrong.verdict.note.as_deref(), Some("first wrong at step 9 of 20"));
        // Where no logits tell how far it is.
        assert_eq!(generated_ids(&[token(0, 7, 8, None)]).unwrap().ratio, None);
    }
}
