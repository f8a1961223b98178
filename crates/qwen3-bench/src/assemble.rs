//! The report of what several processes measured.

use std::collections::BTreeMap;

use qwen3_config::{Precision, Qwen3Config};
use qwen3_report::bench::{Accuracy, DeviceLimit, Figures, PeerRow, Row, Sample, Skipped, Workload};
use qwen3_report::{BenchReport, Label};
use qwen3_trace::{Backend, Kernels};

use crate::{Measurements, Work};

/// Who measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A backend of ours, and whether it has our kernels.
    Ours(Backend, Kernels),
    /// Another engine, by its name.
    Peer(String),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours(backend, kernels) => match kernels.variant() {
                None => f.write_str(backend.name()),
                Some(variant) => write!(f, "{backend} ({variant})"),
            },
            Self::Peer(name) => f.write_str(name),
        }
    }
}

/// One process and what it measured.
#[derive(Clone, Debug)]
pub struct Process {
    /// Who it was.
    pub who: Who,
    /// What it computed in.
    pub dtype: Precision,
    /// What it said.
    pub measurements: Measurements,
    /// Did others use the machine in the meantime?
    pub disturbed: bool,
}

/// What is known of one workload of one backend or engine in a dtype.
#[derive(Default)]
struct Taken {
    samples: Vec<Sample>,
    warm_up_s: Vec<f64>,
    peak_rss_mb: Option<f64>,
    huge_pages_mb: Option<f64>,
    version: String,
}

/// Adds the rows, peers, ratios and what was skipped of `processes` to `report`, which has the machine and its
/// limits already. Rows come in the order in which they were first measured. `accuracy` is told beside our speeds.
pub fn assemble(
    report: &mut BenchReport,
    config: &Qwen3Config,
    processes: &[Process],
    accuracy: impl Fn(&Label) -> Option<Accuracy>,
) {
    let mut order = Vec::new();
    let mut taken = BTreeMap::<(&Who, Precision, Workload), Taken>::new();
    for process in processes {
        let Process { who, dtype, measurements, disturbed } = process;
        if let (Who::Ours(backend, _), Some(rates)) = (who, measurements.device) {
            keep_faster(&mut report.limits.devices, backend.name(), *dtype, rates);
        }
        for found in &measurements.measurements {
            let key = (who, *dtype, found.workload);
            if !order.contains(&key) {
                order.push(key);
            }
            let taken = taken.entry(key).or_default();
            let sample = |seconds: &f64| Sample { seconds: *seconds, disturbed: *disturbed };
            taken.samples.extend(found.samples.iter().map(sample));
            taken.warm_up_s.extend(found.warm_up);
            let most = |one: Option<f64>, other| one.into_iter().chain(other).reduce(f64::max);
            taken.peak_rss_mb = most(taken.peak_rss_mb, measurements.peak_rss_mb);
            taken.huge_pages_mb = most(taken.huge_pages_mb, measurements.huge_pages_mb);
            taken.version.clone_from(&measurements.version);
        }
        for skipped in &measurements.skipped {
            let skipped = Skipped {
                who: format!("{who} {dtype}"),
                workload: skipped.workload,
                reason: skipped.reason.clone(),
            };
            if !report.skipped.contains(&skipped) {
                report.skipped.push(skipped);
            }
        }
    }
    for key in order {
        let (who, dtype, workload) = key;
        let Some(taken) = taken.remove(&key) else { continue };
        let mut figures = Figures::new(dtype, workload, &taken.samples, taken.warm_up_s);
        let work = Work::of(config, dtype, workload);
        figures.peak_rss_mb = taken.peak_rss_mb;
        figures.huge_pages_mb = taken.huge_pages_mb;
        figures.bytes_per_token = work.map(|work| work.bytes);
        let name = match who {
            Who::Ours(backend, _) => backend.name(),
            Who::Peer(peer) => peer,
        };
        let limit = work.and_then(|work| work.most(&report.limits, name, dtype));
        let figures = figures.limited(limit);
        match who {
            Who::Ours(_, kernels) => {
                let mut row = Row { backend: name.into(), variant: kernels.variant(), figures };
                row.figures.accuracy = accuracy(&row.label());
                report.rows.push(row);
            }
            Who::Peer(_) => {
                report.peers.push(PeerRow { peer: name.into(), version: taken.version, figures });
            }
        }
    }
    report.compare();
}

/// A limit is the best that was seen.
fn keep_faster(devices: &mut Vec<DeviceLimit>, backend: &str, dtype: Precision, rates: crate::DeviceRates) {
    let crate::DeviceRates { gb_per_s, gflop_per_s } = rates;
    match devices.iter_mut().find(|device| device.backend == backend && device.dtype == dtype) {
        Some(device) => {
            device.gb_per_s = device.gb_per_s.max(gb_per_s);
            device.gflop_per_s = device.gflop_per_s.max(gflop_per_s);
        }
        None => devices.push(DeviceLimit { backend: backend.into(), dtype, gb_per_s, gflop_per_s }),
    }
}

#[cfg(test)]
mod tests {
    use qwen3_report::bench::{GreedyIds, Limits, Pages, Phase};

    use super::*;
    use crate::{DeviceRates, Measurement, NotMeasured};

    fn process(who: Who, seconds: f64, disturbed: bool) -> Process {
        let mut measurements = Measurements::new("p", "v".into(), 2);
        let workload = Workload { phase: Phase::Decode, tokens: 10, context: 4, batch: 1 };
        measurements.measurements.push(Measurement { workload, warm_up: Some(9.0), samples: vec![seconds] });
        measurements.skipped.push(NotMeasured { workload: None, reason: "once".into() });
        measurements.peak_rss_mb = Some(seconds);
        Process { who, dtype: Precision::F32, measurements, disturbed }
    }

    #[test]
    fn rounds_of_a_workload_are_one_row() {
        let flex = || Who::Ours(Backend::Flex, Kernels::On);
        let peer = || Who::Peer("candle".into());
        let processes = [
            process(flex(), 1.0, false),
            process(peer(), 4.0, false),
            process(flex(), 2.0, true),
            process(peer(), 4.0, false),
        ];
        let limits = Limits { read_gb_per_s: [(Pages::Ordinary, 1.0)].into(), ..Limits::default() };
        let mut report = BenchReport { limits, ..BenchReport::default() };
        let right =
            Accuracy { cases: 1, failed: 0, worst_over_limit: Some(0.5), greedy_ids: GreedyIds::Equal };
        assemble(&mut report, &Qwen3Config::tiny(), &processes, |_| Some(right));
        let [row] = &report.rows[..] else { panic!("{:?}", report.rows) };
        assert_eq!((row.figures.samples.clone(), row.figures.disturbed), (vec![10.0, 5.0], 1));
        assert_eq!((row.figures.tok_per_s, row.figures.peak_rss_mb), (Some(7.5), Some(2.0)));
        assert_eq!((row.figures.accuracy, row.figures.warm_up_s.len()), (Some(right), 2));
        assert!(row.figures.of_limit.is_some_and(|share| share > 0.0));
        assert_eq!((report.peers.len(), report.peers[0].figures.tok_per_s), (1, Some(2.5)));
        assert_eq!(report.ratios[0].ratio, 3.0);
        assert_eq!(report.skipped.len(), 2);
    }

    #[test]
    fn a_device_is_as_fast_as_it_ever_was() {
        let mut slow = process(Who::Ours(Backend::Wgpu, Kernels::On), 1.0, false);
        slow.measurements.device = Some(DeviceRates { gb_per_s: 5.0, gflop_per_s: 90.0 });
        let mut fast = slow.clone();
        fast.measurements.device = Some(DeviceRates { gb_per_s: 7.0, gflop_per_s: 80.0 });
        let mut report = BenchReport::default();
        assemble(&mut report, &Qwen3Config::tiny(), &[slow, fast], |_| None);
        let device = &report.limits.devices[0];
        assert_eq!((device.gb_per_s, device.gflop_per_s), (7.0, 90.0));
        assert!(report.rows[0].figures.limit_tok_per_s.is_some());
    }
}
