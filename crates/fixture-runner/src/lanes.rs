//! Runs backends side by side and hands their results on in order.
//!
//! Backends that compute on the CPU share one lane, one after the other, for each takes all cores. A
//! backend that compiles kernels spends most of a short run doing that on one core, so each of its dtypes
//! has a lane of its own.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Result;

use qwen3_report::CaseResult;
use qwen3_trace::{Backend, Kernels, Precision};

use crate::manifest::Case;
use crate::supervise::{Part, run_part, unavailable};
use crate::unavailable::Unavailable;

/// What every lane works from.
pub struct Work<'a> {
    /// The program whose workers compute.
    pub program: &'a Path,
    /// The manifest.
    pub manifest: &'a Path,
    /// The cases.
    pub cases: &'a [&'a Case],
    /// The dtypes asked for; none for all.
    pub dtypes: &'a [Precision],
    /// Whether backends have this project's kernels; those that there are none for run once.
    pub kernels: &'a [Kernels],
    /// Backends known not to work, and why.
    pub unavailable: &'a Unavailable,
}

impl Work<'_> {
    /// Runs `backends` and reports every result: by backend, kernels and dtype, each as soon as those before it
    /// have ended.
    ///
    /// # Errors
    /// Those of a bad fixture, of a worker that cannot be started, and of `report`.
    pub fn run(
        &self,
        backends: impl IntoIterator<Item = Backend>,
        report: &mut dyn FnMut(CaseResult) -> Result<()>,
    ) -> Result<()> {
        let parts = backends.into_iter().flat_map(|backend| parts(backend, self.kernels));
        thread::scope(|scope| {
            let mut results: Vec<Receiver<CaseResult>> = Vec::new();
            let mut shared: Vec<(Part, Sender<CaseResult>)> = Vec::new();
            let mut lanes = Vec::new();
            for part in parts {
                let (sender, receiver) = channel();
                results.push(receiver);
                match part.share {
                    None => shared.push((part, sender)),
                    Some(_) => lanes.push(vec![(part, sender)]),
                }
            }
            lanes.push(shared);
            let lanes: Vec<_> = lanes
                .into_iter()
                .map(|lane| {
                    scope.spawn(move || {
                        let mut parts = lane.into_iter();
                        parts.try_for_each(|(part, sender)| self.part(part, &sender))
                    })
                })
                .collect();
            for result in results.iter().flatten() {
                report(result)?;
            }
            for lane in lanes {
                lane.join().expect("a lane does not panic")?;
            }
            Ok(())
        })
    }

    fn part(&self, part: Part, results: &Sender<CaseResult>) -> Result<()> {
        // Nobody listens any more when the report has failed; the error is told there.
        let mut send = |result| {
            let _ = results.send(result);
            Ok(())
        };
        match self.unavailable.reason(part.backend) {
            Some(reason) => unavailable(part, self.cases, self.dtypes, reason, &mut send),
            None => run_part(self.program, part, self.manifest, self.cases, self.dtypes, &mut send),
        }
    }
}

fn parts(backend: Backend, kernels: &[Kernels]) -> Vec<Part> {
    let shares = if backend.compiles_kernels() { Precision::ALL.map(Some).to_vec() } else { vec![None] };
    let of = |kernels| shares.iter().map(move |share| Part { backend, kernels, share: *share });
    backend.kernels(kernels).into_iter().flat_map(of).collect()
}
