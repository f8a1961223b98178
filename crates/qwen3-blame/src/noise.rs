//! Noise floors found by trying: what honest implementations in a dtype are off by.

use qwen3_config::{Qwen3Config, Rows, Site, Tap};
use qwen3_trace::{Floor, Precision, TokenFloors};

use crate::arithmetic::Arithmetic;
use crate::calibrate::products;
use crate::norms::final_norm;
use crate::probe::{LayerTaps, run_layer};
use crate::variant::Variant;
use crate::weights::LayerWeights;

/// Implementations that are tried, as far as the time allows.
const DRAWS: usize = 8;
/// Products that may be computed in the layers, of all of them; for more there are fewer.
const PRODUCTS: usize = 1 << 34;
/// The same in the head, by far the largest matrix; beyond it there are fewer, then fewer tokens, those that are off
/// most.
const HEAD_PRODUCTS: usize = 1 << 32;

/// Honest implementations beside the right one.
pub struct Noise<'a> {
    config: &'a Qwen3Config,
    rows: &'a Rows,
    /// The tokens whose floors are kept, in a row of each sequence.
    tokens: usize,
    drawn: Vec<Variant>,
    /// What each implementation has come to, when errors are passed on from layer to layer.
    states: Option<Vec<Vec<f64>>>,
    /// May the right input be that of an implementation which has it in more digits?
    unsure: bool,
    /// Was anything not finite?
    pub overflows: bool,
    /// What was found.
    pub floors: TokenFloors,
}

impl<'a> Noise<'a> {
    /// Implementations that get the right input at every layer. Floors are kept of the first `tokens` of each
    /// sequence.
    pub fn alone(config: &'a Qwen3Config, rows: &'a Rows, tokens: usize, dtype: Precision) -> Self {
        let [batch, seq] = rows.dims();
        let draws = (PRODUCTS / (products(config, 0..config.num_hidden_layers) * batch * seq).max(1))
            .clamp(2, DRAWS) as u32;
        let rounded =
            |draw| Variant { arithmetic: Arithmetic::Rounded { dtype, draw }, ..Variant::right(config) };
        Self {
            config,
            rows,
            tokens,
            drawn: (0..draws).map(rounded).collect(),
            states: None,
            unsure: false,
            overflows: false,
            floors: TokenFloors::new(),
        }
    }

    /// Implementations that go on from what they computed, beginning at `input` `[batch * seq, hidden_size]`.
    pub fn through(self, input: &[f64]) -> Self {
        let states = self.drawn.iter().map(|variant| held(variant, input)).collect();
        Self { states: Some(states), ..self }
    }

    /// Implementations that may have got more digits of the input than there are in the dtype, as those do that keep the
    /// residual stream in f32 and show it rounded.
    pub fn unsure(self) -> Self {
        Self { unsure: true, ..self }
    }

    /// How many implementations are tried.
    pub fn implementations(&self) -> usize {
        self.drawn.len()
    }

    /// Takes the embeddings `[batch * seq, hidden_size]`, which are only rounded.
    pub fn embedding(&mut self, x: &[f64]) {
        let floors = self.worst(Tap::Embedding, &[held(&self.drawn[0], x)], x);
        self.floors.insert(Site::outside(Tap::Embedding).to_string(), floors);
    }

    /// Runs `layer`, of which `exact` is the right run on `x`.
    pub fn layer(&mut self, layer: usize, weights: &LayerWeights, x: &[f64], exact: &LayerTaps) {
        let run = |(variant, x): (&Variant, Vec<f64>)| {
            run_layer(weights, self.config, variant, self.rows, &x, None)
        };
        let inputs = self.inputs(x);
        let runs: Vec<LayerTaps> = self.drawn.iter().zip(inputs).map(run).collect();
        for tap in Tap::of_kind(self.config.layer(layer).feed_forward) {
            let found: Vec<&[f64]> = runs.iter().map(|taps| taps.get(tap)).collect();
            let floors = self.worst(tap, &found, exact.get(tap));
            self.overflows |= found.iter().any(|values| self.overflow(tap, values));
            self.floors.insert(Site::inside(layer, tap).to_string(), floors);
        }
        if let Some(states) = &mut self.states {
            *states = runs.iter().map(|taps| taps.get(Tap::LayerOutput).to_vec()).collect();
        }
    }

    /// What each implementation gets, where `x` is right.
    fn inputs(&self, x: &[f64]) -> Vec<Vec<f64>> {
        let fresh = || self.drawn.iter().map(|variant| self.fresh(variant, x)).collect();
        self.states.clone().unwrap_or_else(fresh)
    }

    fn fresh(&self, variant: &Variant, x: &[f64]) -> Vec<f64> {
        if self.unsure {
            x.iter().map(|value| variant.arithmetic.beside(*value)).collect()
        } else {
            held(variant, x)
        }
    }

    /// The floors of the tokens of `tap`, padding left out.
    fn worst<X: AsRef<[f64]>>(&self, tap: Tap, runs: &[X], exact: &[f64]) -> Vec<Floor> {
        let [batch, seq] = self.rows.dims();
        let (shape, axis) = (tap.shape(self.config, batch, seq), tap.sequence_axis());
        let token_of = |index| {
            let [row, token] = Rows::token_of(&shape, axis, index);
            row * seq + token
        };
        let mut worst = Worst::new(batch * seq);
        for values in runs {
            let errors = values.as_ref().iter().zip(exact).map(|(a, e)| (a - e).abs());
            worst.add(errors.enumerate().map(|(index, error)| (token_of(index), error)));
        }
        let kept = self.kept().into_iter().map(|token| worst.floors[token]);
        kept.collect()
    }

    /// Is a value of a token not finite?
    fn overflow(&self, tap: Tap, values: &[f64]) -> bool {
        let [batch, seq] = self.rows.dims();
        let (shape, axis) = (tap.shape(self.config, batch, seq), tap.sequence_axis());
        let mut all = values.iter().enumerate();
        all.any(|(index, value)| !value.is_finite() && self.rows.is_token(&shape, axis, index))
    }

    /// The tokens that are kept, counted over the batch.
    fn kept(&self) -> Vec<usize> {
        let [batch, seq] = self.rows.dims();
        let all = (0..batch).flat_map(|row| (0..self.tokens).map(move |token| (row, token)));
        let seen = all.filter(|(row, token)| self.rows.visible[*row][*token]);
        seen.map(|(row, token)| row * seq + token).collect()
    }

    /// Runs the final norm, and the head that makes logits of normed tokens in an arithmetic; `x` is the last
    /// layer's right output. Tokens behind those that are kept, and the last of them, make `step_logits`.
    ///
    /// # Errors
    /// Those of `head`.
    pub fn end<E>(
        &mut self,
        norm: &[f32],
        x: &[f64],
        mut head: impl FnMut(&[f64], Arithmetic) -> Result<Vec<f64>, E>,
    ) -> Result<(), E> {
        let exact = final_norm(x, norm, &Variant::right(self.config));
        let inputs = self.inputs(x);
        let normed = self.drawn.iter().zip(&inputs).map(|(variant, x)| final_norm(x, norm, variant));
        let normed: Vec<Vec<f64>> = normed.collect();
        let floors = self.worst(Tap::FinalNorm, &normed, &exact);
        self.floors.insert(Site::outside(Tap::FinalNorm).to_string(), floors);

        let ([batch, seq], size) = (self.rows.dims(), self.config.hidden_size);
        let off = |token: usize| {
            let of_token = token * size..(token + 1) * size;
            let run = |run: &Vec<f64>| {
                let pairs = run[of_token.clone()].iter().zip(&exact[of_token.clone()]);
                pairs.map(|(a, e)| (a - e).powi(2)).sum::<f64>()
            };
            normed.iter().map(run).fold(0.0, f64::max)
        };
        let off: Vec<f64> = (0..batch * seq).map(off).collect();
        let most = (HEAD_PRODUCTS / (size * self.config.vocab_size)).max(2);
        let worst_of = |mut tokens: Vec<usize>| {
            tokens.sort_by(|a, b| off[*b].total_cmp(&off[*a]));
            tokens.truncate(most / 2);
            tokens
        };
        let mut sets = vec![(Site::outside(Tap::Logits).to_string(), worst_of(self.kept()))];
        if self.states.is_some() {
            let steps = (0..batch).flat_map(|row| (self.tokens - 1..seq).map(move |token| row * seq + token));
            sets.push(("step_logits".into(), worst_of(steps.collect())));
        }
        let tokens: Vec<usize> = sets.iter().flat_map(|(_, tokens)| tokens).copied().collect();
        let some = |normed: &Vec<f64>| -> Vec<f64> {
            tokens.iter().flat_map(|token| &normed[token * size..(token + 1) * size]).copied().collect()
        };
        let right = head(&some(&exact), Arithmetic::Exact)?;
        // All implementations' at once: the head's weights are read once.
        let rounded = self.drawn.last().expect("there are draws").arithmetic;
        let made = head(
            &normed.iter().take((most / tokens.len().max(1)).max(1)).flat_map(some).collect::<Vec<_>>(),
            rounded,
        )?;
        let (vocab, mut start) = (self.config.vocab_size, 0);
        for (key, tokens) in sets {
            let part = start..start + tokens.len() * vocab;
            let mut worst = Worst::new(1);
            for made in made.chunks(right.len()) {
                let pairs = made[part.clone()].iter().zip(&right[part.clone()]);
                worst.add(pairs.map(|(a, e)| (0, (a - e).abs())));
            }
            self.floors.insert(key, worst.floors);
            start = part.end;
        }
        Ok(())
    }
}

/// `x` as the variant's implementation holds it.
fn held(variant: &Variant, x: &[f64]) -> Vec<f64> {
    x.iter().map(|value| variant.arithmetic.held(*value)).collect()
}

/// The worst of several runs, for each token.
struct Worst {
    floors: Vec<Floor>,
}

impl Worst {
    fn new(tokens: usize) -> Self {
        Self { floors: vec![Floor::default(); tokens] }
    }

    /// Takes in a run's errors with the tokens that they are of.
    fn add(&mut self, errors: impl Iterator<Item = (usize, f64)>) {
        let mut run = vec![(0.0_f64, 0.0, 0_usize); self.floors.len()];
        for (token, error) in errors {
            let (largest, squares, count) = &mut run[token];
            *largest = largest.max(error);
            *squares += error * error;
            *count += 1;
        }
        for (floor, (largest, squares, count)) in self.floors.iter_mut().zip(run) {
            floor.max_abs = floor.max_abs.max(largest);
            floor.rms = floor.rms.max((squares / count.max(1) as f64).sqrt());
        }
    }
}
