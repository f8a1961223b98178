//! Which speeds are results: a fast backend that is wrong must not win.

use super::{Accuracy, BenchReport, Figures, PeerRow, Phase, Row};
use crate::Label;

/// What parity makes of a backend's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No case failed.
    Right,
    /// No case was run: nothing is known.
    Unchecked,
    /// A case failed, or a generated id differs: the speed is that of something else.
    Wrong,
}

/// All rows of a backend in a dtype.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane<'a> {
    /// The backend and dtype.
    pub label: Label,
    /// What parity makes of it.
    pub standing: Standing,
    /// What parity says of it.
    pub accuracy: Option<Accuracy>,
    /// Its rows, in the report's order.
    pub rows: Vec<&'a Figures>,
}

impl Accuracy {
    /// Is what was run right: no case failed, and no generated id differs?
    pub fn standing(&self) -> Standing {
        match self.cases {
            0 => Standing::Unchecked,
            _ if self.failed == 0 && self.greedy_ids != super::GreedyIds::Differ => Standing::Right,
            _ => Standing::Wrong,
        }
    }
}

impl Row {
    /// What parity makes of this row's speed.
    pub fn standing(&self) -> Standing {
        self.figures.accuracy.map_or(Standing::Unchecked, |accuracy| accuracy.standing())
    }
}

impl BenchReport {
    /// The rows by backend and dtype: in the report's order, but what is wrong comes last.
    pub fn lanes(&self) -> Vec<Lane<'_>> {
        let lane = |label: Label| {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.label() == label).collect();
            // One row that is wrong is enough.
            let worst = rows.iter().max_by_key(|row| row.standing()).expect("labels are those of rows");
            Lane {
                label,
                standing: worst.standing(),
                accuracy: worst.figures.accuracy,
                rows: rows.iter().map(|row| &row.figures).collect(),
            }
        };
        let mut lanes: Vec<Lane> = self.labels().into_iter().map(lane).collect();
        lanes.sort_by_key(|lane| lane.standing == Standing::Wrong);
        lanes
    }

    /// The peers' rows by name, version and dtype, in the report's order.
    pub fn peer_lanes(&self) -> Vec<(&PeerRow, Vec<&Figures>)> {
        let mut lanes: Vec<(&PeerRow, Vec<&Figures>)> = Vec::new();
        let key = |row: &PeerRow| (row.peer.clone(), row.version.clone(), row.figures.dtype);
        for row in &self.peers {
            match lanes.iter_mut().find(|lane| key(lane.0) == key(row)) {
                Some((_, rows)) => rows.push(&row.figures),
                None => lanes.push((row, vec![&row.figures])),
            }
        }
        lanes
    }

    /// The fastest at one sequence in a phase among what parity passes.
    pub fn fastest(&self, phase: Phase) -> Option<(Label, &Figures)> {
        let lanes = self.lanes().into_iter().filter(|lane| lane.standing == Standing::Right);
        let rows = lanes.flat_map(|lane| {
            let Lane { label, rows, .. } = lane;
            rows.into_iter().map(move |row| (label.clone(), row))
        });
        let of_phase = |row: &Figures| row.workload.phase == phase && row.workload.batch == 1;
        let rows = rows.filter(|(_, row)| of_phase(row) && row.median() > 0.0);
        rows.reduce(|best, row| if row.1.times_as_fast_as(best.1) > Some(1.0) { row } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::GreedyIds;
    use crate::sample;

    #[test]
    fn what_is_wrong_comes_last_and_does_not_win() {
        let mut report = sample::bench();
        report.rows.rotate_right(8);
        let label = |lane: &Lane| (lane.label.to_string(), lane.standing);
        let lanes: Vec<_> = report.lanes().iter().map(label).collect();
        let expected =
            [("flex f32", Standing::Right), ("flex bf16", Standing::Right), ("wgpu f32", Standing::Wrong)];
        assert_eq!(lanes, expected.map(|(name, standing)| (name.to_owned(), standing)));
        let fastest = |report: &BenchReport, phase| Some(report.fastest(phase)?.0.to_string());
        assert_eq!(fastest(&report, Phase::Prefill).unwrap(), "flex f32");
        assert_eq!(fastest(&report, Phase::Decode).unwrap(), "flex bf16");
        // Of seconds, less is better.
        assert_eq!(fastest(&report, Phase::Load).unwrap(), "flex f32");
        report.rows.iter_mut().for_each(|row| row.figures.accuracy = None);
        assert_eq!(fastest(&report, Phase::Decode), None, "nothing is known to be right");
    }

    #[test]
    fn other_ids_are_wrong_even_where_no_case_failed() {
        let mut accuracy = sample::bench().rows[0].figures.accuracy.unwrap();
        assert_eq!(accuracy.standing(), Standing::Right);
        accuracy.greedy_ids = GreedyIds::NotRun;
        assert_eq!(accuracy.standing(), Standing::Right);
        accuracy.greedy_ids = GreedyIds::Differ;
        assert_eq!(accuracy.standing(), Standing::Wrong);
        accuracy.cases = 0;
        assert_eq!(accuracy.standing(), Standing::Unchecked);
    }

    #[test]
    fn versions_of_a_peer_are_lanes_of_their_own() {
        let mut report = sample::bench();
        assert_eq!(report.peer_lanes().iter().map(|lane| lane.1.len()).collect::<Vec<_>>(), [7, 7]);
        report.peers[0].version += "+";
        assert_eq!(report.peer_lanes().len(), 3);
    }
}
