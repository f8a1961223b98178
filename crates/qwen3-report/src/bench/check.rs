//! Which figures no measurement can give.

use super::{Accuracy, BenchReport, Figures, Limits};

/// How far apart two numbers of a report may be that follow from each other: they may have been rounded.
const ROUNDING: f64 = 0.01;

/// A figure that no measurement can give, so that nothing can be computed from it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Impossible {
    /// There is nothing to take a median of.
    #[error("{place} has no samples")]
    NoSamples {
        /// The row: `flex f32, prefill of 128`.
        place: String,
    },
    /// It is not finite, negative, or 0 where something is divided by it.
    #[error("{place}: `{field}` is {found}, and not a number {least}")]
    OutOfRange {
        /// The row, or `limits`.
        place: String,
        /// The field's key.
        field: &'static str,
        /// What it is.
        found: f64,
        /// `above 0`, `of at least 0`.
        least: &'static str,
    },
    /// It does not follow from what it is computed from.
    #[error("{place}: `{field}` is {found}, but {from} {expected}")]
    Contradiction {
        /// The row.
        place: String,
        /// The field's key.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it follows from, as a sentence's beginning: `the samples' median is`.
        from: &'static str,
        /// What follows.
        expected: String,
    },
}

impl BenchReport {
    /// Is every figure one that a measurement can give? What is read from a file is.
    ///
    /// # Errors
    /// The first that is not, and where it is.
    pub fn check(&self) -> Result<(), Impossible> {
        for row in &self.rows {
            row.figures.check(format!("{}, {}", row.label(), row.figures.workload))?;
        }
        for row in &self.peers {
            let Figures { dtype, workload, .. } = &row.figures;
            row.figures.check(format!("{} {dtype}, {workload}", row.peer))?;
        }
        for ratio in &self.ratios {
            let place = || format!("{} over {}, {}", ratio.label(), ratio.peer, ratio.workload);
            above_0(place, "ratio", [ratio.ratio])?;
        }
        self.limits.check()?;
        at_least_0(|| "machine".into(), "memory_gb", [self.machine.memory_gb])
    }
}

impl Limits {
    fn check(&self) -> Result<(), Impossible> {
        let place = || "limits".into();
        above_0(place, "read_gb_per_s", self.read_gb_per_s.values().copied())?;
        above_0(place, "matmul_gflop_per_s", self.matmul_gflop_per_s.values().copied())?;
        above_0(place, "gb_per_s", self.devices.iter().map(|device| device.gb_per_s))?;
        above_0(place, "gflop_per_s", self.devices.iter().map(|device| device.gflop_per_s))
    }
}

impl Figures {
    fn check(&self, place: String) -> Result<(), Impossible> {
        let named = || place.clone();
        if self.samples.is_empty() {
            return Err(Impossible::NoSamples { place });
        }
        above_0(named, "samples", self.samples.iter().copied())?;
        at_least_0(named, "warm_up_s", self.warm_up_s.iter().copied())?;
        above_0(named, "limit_tok_per_s", self.limit_tok_per_s)?;
        at_least_0(named, "peak_rss_mb", self.peak_rss_mb)?;
        at_least_0(named, "bytes_per_token", self.bytes_per_token)?;
        let contradiction = |field, found, from, expected| {
            Err(Impossible::Contradiction { place: place.clone(), field, found, from, expected })
        };
        let unit = self.workload.phase.unit();
        if self.unit != unit {
            return contradiction("unit", self.unit.to_string(), "the phase's is", unit.to_string());
        }
        if self.disturbed > self.samples.len() {
            let (found, samples) = (self.disturbed.to_string(), self.samples.len().to_string());
            return contradiction("disturbed", found, "the samples are", samples);
        }
        if let Some(Accuracy { cases, failed, .. }) = self.accuracy.filter(|found| found.failed > found.cases)
        {
            return contradiction("failed", failed.to_string(), "the cases are", cases.to_string());
        }
        at_least_0(named, "worst_over_limit", self.accuracy.and_then(|accuracy| accuracy.worst_over_limit))?;
        let [least, greatest] = self.extremes();
        let median = self.median();
        let of_limit = self.tok_per_s.zip(self.limit_tok_per_s).map(|(speed, limit)| speed / limit);
        let follow = [
            ("spread", Some(self.spread[0]), "the least sample is", Some(least)),
            ("spread", Some(self.spread[1]), "the greatest sample is", Some(greatest)),
            ("tok_per_s", self.tok_per_s, "the samples' median is", Some(median)),
            ("of_limit", self.of_limit, "`tok_per_s` over `limit_tok_per_s` is", of_limit),
        ];
        for (field, found, from, expected) in follow {
            let Some(found) = found else { continue };
            let near = |expected: f64| (found - expected).abs() <= ROUNDING * expected.abs();
            if !expected.is_some_and(near) {
                let expected = expected.map_or("not known".into(), |expected| expected.to_string());
                return contradiction(field, found.to_string(), from, expected);
            }
        }
        Ok(())
    }
}

fn above_0(
    place: impl Fn() -> String,
    field: &'static str,
    values: impl IntoIterator<Item = f64>,
) -> Result<(), Impossible> {
    let wrong = values.into_iter().find(|value| !(value.is_finite() && *value > 0.0));
    wrong.map_or(Ok(()), |found| {
        Err(Impossible::OutOfRange { place: place(), field, found, least: "above 0" })
    })
}

fn at_least_0(
    place: impl Fn() -> String,
    field: &'static str,
    values: impl IntoIterator<Item = f64>,
) -> Result<(), Impossible> {
    let wrong = values.into_iter().find(|value| !(value.is_finite() && *value >= 0.0));
    wrong.map_or(Ok(()), |found| {
        Err(Impossible::OutOfRange { place: place(), field, found, least: "of at least 0" })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Unit;
    use crate::sample;

    /// The error of the sample after `change` of its first row of decoding.
    fn error(change: impl FnOnce(&mut Figures)) -> String {
        let mut report = sample::bench();
        let row = report.rows.iter_mut().find(|row| row.figures.limit_tok_per_s.is_some()).unwrap();
        change(&mut row.figures);
        report.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_measured_report_is_possible() {
        sample::bench().check().unwrap();
        BenchReport::default().check().unwrap();
    }

    #[test]
    fn what_nothing_can_be_computed_from_is_refused() {
        assert_eq!(error(|row| row.samples.clear()), "flex f32, prefill of 32 has no samples");
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let shown = format!("flex f32, prefill of 32: `samples` is {value}, and not a number above 0");
            assert_eq!(error(|row| row.samples[1] = value), shown);
            assert!(error(|row| row.limit_tok_per_s = Some(value)).contains("`limit_tok_per_s` is"));
            let refused = error(|row| row.peak_rss_mb = Some(value)).contains("`peak_rss_mb` is");
            assert_eq!(refused, value != 0.0);
        }
        let mut report = sample::bench();
        report.limits.read_gb_per_s.values_mut().for_each(|rate| *rate = 0.0);
        assert!(report.check().unwrap_err().to_string().starts_with("limits: `read_gb_per_s` is 0"));
        let mut report = sample::bench();
        report.ratios[0].ratio = -2.0;
        assert!(report.check().unwrap_err().to_string().contains("`ratio` is -2"));
        let mut report = sample::bench();
        report.peers[0].figures.samples.clear();
        assert!(report.check().unwrap_err().to_string().starts_with("transformers f32, "));
    }

    #[test]
    fn what_contradicts_its_samples_is_refused() {
        let of_limit = "`tok_per_s` over `limit_tok_per_s` is";
        assert!(error(|row| row.of_limit = Some(0.99)).contains(of_limit));
        assert!(error(|row| row.limit_tok_per_s = None).ends_with("is not known"));
        assert!(error(|row| row.tok_per_s = Some(1e6)).contains("the samples' median is"));
        assert!(error(|row| row.spread[0] = 1.0).contains("the least sample is"));
        assert!(error(|row| row.spread[1] = 1e9).contains("the greatest sample is"));
        assert!(error(|row| row.unit = Unit::Seconds).contains("`unit` is s, but the phase's is tok/s"));
        assert!(error(|row| row.disturbed = 99).contains("`disturbed` is 99"));
        let failed = |row: &mut Figures| row.accuracy.as_mut().unwrap().failed = 99;
        assert!(error(failed).contains("`failed` is 99, but the cases are 40"));
        // Written with few digits.
        assert_eq!(error(|row| row.of_limit = row.of_limit.map(|share| share * 1.005)), "");
    }
}
