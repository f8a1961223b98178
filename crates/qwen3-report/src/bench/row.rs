//! One figure of a benchmark with everything that is told beside it.

use std::fmt;

use qwen3_trace::Precision;
use serde::{Deserialize, Serialize};

use super::Accuracy;
use crate::Label;

/// What was timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From opening the files to a model that is ready.
    Load,
    /// From a prompt's ids to the id of the next token on the host.
    FirstToken,
    /// Reading a prompt, to the logits of its last token.
    Prefill,
    /// Greedy decoding, each id fed back.
    Decode,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 4] = [Self::Load, Self::FirstToken, Self::Prefill, Self::Decode];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::FirstToken => "first_token",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }

    /// What its samples are.
    pub fn unit(self) -> Unit {
        match self {
            Self::Load | Self::FirstToken => Unit::Seconds,
            Self::Prefill | Self::Decode => Unit::TokensPerSecond,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Less is better.
    #[serde(rename = "s")]
    Seconds,
    /// More is better.
    #[serde(rename = "tok/s")]
    TokensPerSecond,
}

impl Unit {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::TokensPerSecond => "tok/s",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is done, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// What.
    pub phase: Phase,
    /// Tokens of each sequence that are read or generated; 0 for `load`.
    pub tokens: usize,
    /// Tokens of each sequence that the cache holds before it.
    pub context: usize,
    /// Sequences side by side.
    pub batch: usize,
}

impl Workload {
    /// Loading a model.
    pub const LOAD: Self = Self { phase: Phase::Load, tokens: 0, context: 0, batch: 1 };

    /// A sample of `seconds` in the phase's unit.
    pub fn sample(&self, seconds: f64) -> f64 {
        match self.phase.unit() {
            Unit::Seconds => seconds,
            Unit::TokensPerSecond => (self.tokens * self.batch) as f64 / seconds,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, tokens, context, batch } = self;
        match phase {
            Phase::Load => return write!(f, "load"),
            Phase::FirstToken => write!(f, "first token after {tokens}")?,
            Phase::Prefill => write!(f, "prefill of {tokens}")?,
            Phase::Decode => return write!(f, "decode of {tokens} at {context}, batch {batch}"),
        }
        if *context > 0 {
            write!(f, " at {context}")?;
        }
        if *batch == 1 { Ok(()) } else { write!(f, ", batch {batch}") }
    }
}

/// One timing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Wall time.
    pub seconds: f64,
    /// Did other processes use the machine while it was taken?
    pub disturbed: bool,
}

/// What was measured of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The dtype computed in.
    pub dtype: Precision,
    /// What was done.
    #[serde(flatten)]
    pub workload: Workload,
    /// The median of the samples where they are tokens per second, of all sequences together.
    pub tok_per_s: Option<f64>,
    /// What the samples are.
    pub unit: Unit,
    /// Every sample, in the order in which they were taken.
    pub samples: Vec<f64>,
    /// The least and the greatest sample.
    pub spread: [f64; 2],
    /// How many of the samples were taken while other processes used the machine.
    pub disturbed: usize,
    /// Seconds of the first use in each process, in which kernels are compiled and tuned; it is no sample.
    pub warm_up_s: Vec<f64>,
    /// The most that the machine's limits allow.
    pub limit_tok_per_s: Option<f64>,
    /// `tok_per_s` over `limit_tok_per_s`.
    pub of_limit: Option<f64>,
    /// The largest resident set of the process in MiB.
    pub peak_rss_mb: Option<f64>,
    /// Its memory in huge pages at the end, in MiB; they are read faster.
    #[serde(default)]
    pub huge_pages_mb: Option<f64>,
    /// Bytes of weights and cache that a token needs read.
    pub bytes_per_token: Option<f64>,
    /// What parity says of this backend and dtype.
    pub accuracy: Option<Accuracy>,
}

impl Figures {
    /// Of `samples`, with nothing told beside them yet.
    ///
    /// # Panics
    /// When there is no sample.
    pub fn new(dtype: Precision, workload: Workload, samples: &[Sample], warm_up_s: Vec<f64>) -> Self {
        let values: Vec<f64> = samples.iter().map(|sample| workload.sample(sample.seconds)).collect();
        let unit = workload.phase.unit();
        Self {
            dtype,
            workload,
            tok_per_s: (unit == Unit::TokensPerSecond).then(|| median(&values)),
            unit,
            spread: extremes(&values),
            disturbed: samples.iter().filter(|sample| sample.disturbed).count(),
            samples: values,
            warm_up_s,
            limit_tok_per_s: None,
            of_limit: None,
            peak_rss_mb: None,
            huge_pages_mb: None,
            bytes_per_token: None,
            accuracy: None,
        }
    }

    /// Adds the most that the machine allows, in tokens per second.
    pub fn limited(mut self, limit: Option<f64>) -> Self {
        self.limit_tok_per_s = limit;
        self.of_limit = self.tok_per_s.zip(limit).map(|(speed, limit)| speed / limit);
        self
    }

    /// The median of the samples, in their unit.
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }

    /// The least and the greatest of the samples.
    pub fn extremes(&self) -> [f64; 2] {
        extremes(&self.samples)
    }

    /// Above 1 when this is faster than `other`; `None` when either is not a number above 0.
    pub fn times_as_fast_as(&self, other: &Self) -> Option<f64> {
        let (ours, theirs) = (self.median(), other.median());
        let ratio = match self.unit {
            Unit::Seconds => theirs / ours,
            Unit::TokensPerSecond => ours / theirs,
        };
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }
}

/// The least and the greatest.
fn extremes(values: &[f64]) -> [f64; 2] {
    let values = values.iter().copied();
    [values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max)]
}

/// The middle one, or the mean of the middle two; not a number when there are none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// A row of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The backend's name.
    pub backend: String,
    /// How it computed, when not in the usual way: `without kernels`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Row {
    /// What the row's runs are called: `flex bf16`.
    pub fn label(&self) -> Label {
        Label { variant: self.variant.clone(), ..Label::new(&self.backend, self.figures.dtype) }
    }
}

/// A row of another engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its name: `transformers`, `llama.cpp`, `candle`.
    pub peer: String,
    /// Its version, and what it depends on.
    pub version: String,
    /// What was measured.
    #[serde(flatten)]
    pub figures: Figures,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(phase: Phase, seconds: &[f64]) -> Figures {
        let workload = Workload { phase, tokens: 64, context: 8, batch: 2 };
        let sample = |seconds: &f64| Sample { seconds: *seconds, disturbed: *seconds > 3.0 };
        let samples: Vec<_> = seconds.iter().map(sample).collect();
        Figures::new(Precision::F32, workload, &samples, vec![9.0])
    }

    #[test]
    fn samples_have_the_unit_of_their_phase() {
        let decode = figures(Phase::Decode, &[4.0, 1.0, 2.0]);
        assert_eq!((decode.samples.clone(), decode.tok_per_s), (vec![32.0, 128.0, 64.0], Some(64.0)));
        assert_eq!((decode.spread, decode.disturbed), ([32.0, 128.0], 1));
        let load = figures(Phase::Load, &[4.0, 1.0]);
        assert_eq!((load.samples.clone(), load.tok_per_s, load.median()), (vec![4.0, 1.0], None, 2.5));
    }

    #[test]
    fn workloads_have_names_of_their_own() {
        let shown = |phase, context, batch| Workload { phase, tokens: 64, context, batch }.to_string();
        assert_eq!(shown(Phase::Prefill, 0, 1), "prefill of 64");
        assert_eq!(shown(Phase::Prefill, 8, 2), "prefill of 64 at 8, batch 2");
        assert_eq!(shown(Phase::FirstToken, 0, 4), "first token after 64, batch 4");
        assert_eq!(shown(Phase::Decode, 0, 1), "decode of 64 at 0, batch 1");
        assert_eq!(Workload::LOAD.to_string(), "load");
    }

    #[test]
    fn faster_is_above_one_in_every_phase() {
        for phase in Phase::ALL {
            let (fast, slow) = (figures(phase, &[1.0]), figures(phase, &[2.0]));
            assert_eq!((fast.times_as_fast_as(&slow), slow.times_as_fast_as(&fast)), (Some(2.0), Some(0.5)));
            assert_eq!(fast.times_as_fast_as(&figures(phase, &[])), None);
        }
    }

    #[test]
    fn the_fraction_of_a_limit_follows_from_both() {
        let decode = figures(Phase::Decode, &[2.0]);
        assert_eq!(decode.clone().limited(Some(128.0)).of_limit, Some(0.5));
        assert_eq!(decode.limited(None).of_limit, None);
        assert_eq!(figures(Phase::Load, &[2.0]).limited(Some(1.0)).of_limit, None);
    }
}
