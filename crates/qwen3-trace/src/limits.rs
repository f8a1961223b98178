//! How far a tensor may be from the reference.

use std::collections::BTreeMap;

use qwen3_config::Precision;

use crate::error::ensure;
use crate::metrics::Floor;
use crate::names::{is_inner, layer_of, sequence_axis};
use crate::size::Size;
use crate::stored_floors::StoredFloors;
use crate::tensor_limit::TensorLimit;
use crate::{Reference, TraceError};

/// Noise floors that nobody has measured, in epsilons of the dtype: for a tensor behind `n` layers,
/// `factor * sqrt(n)` of the tensor's largest value and of its rms.
///
/// Upper bounds of what Transformers' own runs show in the committed fixtures (3 layers) and in a model
/// of the 0.6B shape (28 layers): outputs 5.2 in f32 and 1.5 in half precision, tensors inside a layer
/// 8.0 and 2.6. An f32 run has more operations between roundings to its own format than a half one,
/// whose norms and softmax are computed in f32.
const OUTPUT: [f64; 2] = [5.2, 1.5];
const INSIDE: [f64; 2] = [8.0, 2.6];

/// A stored floor that is lower than what the operation alone is off by, by more than this factor, is that of a run
/// that was lucky.
const LUCKY: f64 = 4.0;
/// A stored floor is believed down to this share of what honest runs of this model are off by: those are the worst of
/// several, each rounding in its own way, and it is one.
const DOUBT: f64 = 0.5;
/// Where honest runs are off by so many times more in one token than in most, attention is nearly tied there, and no
/// run tells what another is off by.
const UNEVEN: f64 = 8.0;
/// The largest error of a token is about so many times its rms.
const PEAK: f64 = 4.0;
/// A floor so many times what honest runs are off by is none.
const UNHEARD_OF: f64 = 64.0;

/// For each tensor the noise floors of its tokens, padding left out, or one floor for all.
pub type TokenFloors = BTreeMap<String, Vec<Floor>>;

/// Limits for one dtype.
#[derive(Clone)]
pub struct Limits {
    dtype: Precision,
    layers: usize,
    /// How many tokens the prompt has, padding left out.
    tokens: usize,
    stored: StoredFloors,
    /// Of single operations.
    alone: TokenFloors,
    /// Of whole runs that were tried.
    through: TokenFloors,
    /// Are they off by much more in some tokens than in most?
    uneven: bool,
    /// Through how many layers values have come since they were last known exactly, when not through all.
    passed: Option<usize>,
}

impl Limits {
    /// Those of the reference's own `noise_floor.<dtype>.<tensor>` and `noise_floor_isolated.<dtype>.<tensor>`
    /// (largest error, rms error), and for tensors without one, those that follow from the dtype.
    ///
    /// # Errors
    /// When a floor is not two finite numbers of at least 0.
    pub fn new(reference: &Reference, dtype: Precision, layers: usize) -> Result<Self, TraceError> {
        let tokens = reference.rows.visible.iter().flatten().filter(|seen| **seen).count();
        Ok(Self {
            dtype,
            layers,
            tokens,
            stored: StoredFloors::read(reference, dtype)?,
            alone: TokenFloors::new(),
            through: TokenFloors::new(),
            uneven: false,
            passed: None,
        })
    }

    /// The same, knowing what honest operations in this dtype are off by when they are given the right input.
    pub fn with_alone(self, alone: TokenFloors) -> Self {
        Self { alone, ..self }
    }

    /// The same, knowing what whole honest runs in this dtype are off by.
    pub fn with_through(self, through: TokenFloors) -> Self {
        let uneven = through.values().any(|floors| {
            let mut sizes: Vec<f64> = floors.iter().map(|floor| floor.rms).collect();
            sizes.sort_by(f64::total_cmp);
            sizes.last().is_some_and(|largest| *largest > UNEVEN * sizes[(sizes.len() - 1) / 2])
        });
        Self { through, uneven, ..self }
    }

    /// The same for values that have come through `layers` layers since they were known exactly, 1 when each
    /// layer is given its input: no other error is inherited, and a stored floor, which is that of a whole
    /// run, may be too wide.
    pub fn behind(&self, layers: usize) -> Self {
        Self { passed: Some(layers), ..self.clone() }
    }

    /// The same for results in another dtype.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_dtype(&self, reference: &Reference, dtype: Precision) -> Result<Self, TraceError> {
        Ok(Self { passed: self.passed, ..Self::new(reference, dtype, self.layers)? })
    }

    /// Where the limits come from.
    pub fn source(&self) -> String {
        let dtype = self.dtype;
        if self.stored.whole.is_empty() {
            return format!(
                "the stated dtype {dtype}, by what rounding to it does to this model: the reference has no float64 \
                 noise floors in it"
            );
        }
        format!("float64 noise floors in {dtype}, stored with the reference")
    }

    /// Must whole runs be tried to know what they are off by? Where nothing is stored; where tokens of `reference`
    /// are massive, from which a stored floor does not tell the others; and where a stored floor is far from what
    /// its operation alone is off by.
    ///
    /// # Errors
    /// When a tensor is malformed.
    pub fn need_whole_runs(&self, reference: &Reference) -> Result<bool, TraceError> {
        if self.stored.whole.is_empty() {
            return Ok(true);
        }
        let odd = |(key, stored): (&String, &Floor)| {
            let alone = self.alone.get(key).map(|floors| pooled(floors, None));
            alone.is_some_and(|alone| alone.rms > LUCKY * stored.rms || stored.rms > UNHEARD_OF * alone.rms)
        };
        if self.stored.whole.iter().any(odd) {
            return Ok(true);
        }
        let seen: Vec<bool> = reference.rows.visible.concat();
        for site in reference.sites.iter().filter(|site| !site.is_inner()) {
            let key = site.to_string();
            let Some(values) = reference.trace.values(&key)? else {
                continue;
            };
            let tokens = values.chunks(values.len() / seen.len()).zip(&seen).filter(|(_, seen)| **seen);
            let values: Vec<f64> = tokens.flat_map(|(token, _)| token).copied().collect();
            if self.of(&key, &values).has_massive_tokens() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks that no stored floor is far beyond what honest runs, and honest operations, are off by.
    ///
    /// # Errors
    /// When one is, naming it.
    pub fn check_stored(&self, reference: &Reference) -> Result<(), TraceError> {
        let StoredFloors { whole, isolated } = &self.stored;
        for (stored, tried, alone) in [(whole, &self.through, false), (isolated, &self.alone, true)] {
            for (key, stored) in stored {
                let Some(tried) = tried.get(key).map(|floors| pooled(floors, None)) else {
                    continue;
                };
                let within =
                    stored.rms <= UNHEARD_OF * tried.rms && stored.max_abs <= UNHEARD_OF * tried.max_abs;
                ensure(within, reference.trace.path(), || {
                    format!(
                        "`{}` says that honest {} are off by {:.2e}, rms {:.2e}; those tried are off by {:.2e}, \
                         rms {:.2e}",
                        StoredFloors::name(alone, self.dtype, key),
                        if alone { "operations" } else { "runs" },
                        stored.max_abs,
                        stored.rms,
                        tried.max_abs,
                        tried.rms
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The dtype they are for.
    pub fn dtype(&self) -> Precision {
        self.dtype
    }

    /// The limits of tensor `key`, whose expected values are `expected`, padding left out.
    pub fn of(&self, key: &str, expected: &[f64]) -> TensorLimit {
        let side_by_side =
            sequence_axis(key) == Some(1) && self.tokens > 0 && expected.len().is_multiple_of(self.tokens);
        let whole = Size::of(expected);
        TensorLimit::new(expected, if side_by_side { self.tokens } else { 1 }, self.dtype, |tokens, size| {
            self.floor(key, side_by_side.then_some(tokens), size, whole)
        })
    }

    /// The limit of tensor `key` with one for all its values, which need not be those of all tokens.
    pub fn whole(&self, key: &str, expected: &[f64]) -> TensorLimit {
        let size = Size::of(expected);
        TensorLimit::new(expected, 1, self.dtype, |_, _| {
            let floor = self.floor(key, None, size, size);
            // They may be those of a token that is off by much more than most.
            let rms = if self.uneven { floor.rms.max(floor.max_abs / PEAK) } else { floor.rms };
            Floor { rms, ..floor }
        })
    }

    /// The noise floor of some tokens of tensor `key`, of all without `tokens`: of values of this size in a tensor
    /// of the size `whole`.
    fn floor(&self, key: &str, tokens: Option<&[usize]>, size: Size, whole: Size) -> Floor {
        let stored = |floors: &BTreeMap<String, Floor>| {
            floors.get(key).map(|floor| Floor {
                max_abs: floor.max_abs * size.largest / whole.largest.max(f64::MIN_POSITIVE),
                rms: floor.rms * size.rms / whole.rms.max(f64::MIN_POSITIVE),
            })
        };
        let (isolated, stored) = (stored(&self.stored.isolated), stored(&self.stored.whole));
        let pooled = |floors: &TokenFloors| floors.get(key).map(|all| pooled(all, tokens));
        let alone = pooled(&self.alone);
        // A stored floor is of all tokens: massive ones and the others share it, but not in proportion to their size.
        let apart = tokens.is_some_and(|tokens| tokens.len() < self.tokens);
        let whole = match (self.passed, alone) {
            (Some(1), Some(alone)) => {
                let known = least(isolated, stored).filter(|_| !apart);
                let doubt = if self.uneven { 1.0 } else { DOUBT };
                let known = known.map(|known| wider(known, alone.times(doubt)));
                return known.map_or(alone, |known| narrower(known, alone));
            }
            (Some(layers), _) => {
                let usual = self.usual(key, size);
                let known = least(isolated.filter(|_| layers == 1), stored);
                known.map_or(usual, |known| narrower(known, usual))
            }
            (None, _) => match (stored, pooled(&self.through)) {
                (Some(stored), Some(tried)) if apart || self.uneven => wider(stored, tried),
                (Some(stored), Some(tried)) => wider(stored, tried.times(DOUBT)),
                (Some(stored), None) => stored,
                (None, Some(tried)) => tried,
                (None, None) => self.usual(key, size),
            },
        };
        // No run is better than its operations.
        wider(whole, alone.unwrap_or_default().times(if stored.is_some() && !apart { DOUBT } else { 1.0 }))
    }

    /// The floor that follows from the dtype.
    fn usual(&self, key: &str, size: Size) -> Floor {
        let depth = match (layer_of(key), key, self.passed) {
            (None, "embedding_output", _) => 0,
            (_, _, Some(layers)) => layers,
            (Some(layer), _, None) => layer + 1,
            (None, _, None) => self.layers,
        };
        let kind = if is_inner(key) { INSIDE } else { OUTPUT };
        let factor = kind[usize::from(self.dtype != Precision::F32)];
        let share = factor * (depth as f64).sqrt() * self.dtype.epsilon();
        Floor { max_abs: share * size.largest, rms: share * size.rms }
    }
}

/// The floor of some tokens together, of all without `tokens`; `floors` may be one for all.
fn pooled(floors: &[Floor], tokens: Option<&[usize]>) -> Floor {
    let picked: Vec<&Floor> = match tokens {
        Some(tokens) if floors.len() > 1 => tokens.iter().map(|token| &floors[*token]).collect(),
        _ => floors.iter().collect(),
    };
    let squares: f64 = picked.iter().map(|floor| floor.rms * floor.rms).sum();
    Floor {
        max_abs: picked.iter().map(|floor| floor.max_abs).fold(0.0, f64::max),
        rms: (squares / picked.len().max(1) as f64).sqrt(),
    }
}

/// The narrower of two floors that may be known: nothing is worse when it is given the right input than in a whole run.
fn least(a: Option<Floor>, b: Option<Floor>) -> Option<Floor> {
    a.into_iter().chain(b).reduce(narrower)
}

fn wider(a: Floor, b: Floor) -> Floor {
    Floor { max_abs: a.max_abs.max(b.max_abs), rms: a.rms.max(b.rms) }
}

fn narrower(a: Floor, b: Floor) -> Floor {
    Floor { max_abs: a.max_abs.min(b.max_abs), rms: a.rms.min(b.rms) }
}
