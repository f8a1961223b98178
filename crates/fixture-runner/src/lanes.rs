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
use qwen3_trace::{Backend, Precision};

use crate::manifest::Case;
use crate::supervise::{run_backend, unavailable};
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
    /// Backends known not to work, and why.
    pub unavailable: &'a Unavailable,
}

/// One worker's part: a backend, or one dtype of it.
#[derive(Clone, Copy)]
struct Part {
    backend: Backend,
    share: Option<Precision>,
}

impl Work<'_> {
    /// Runs `backends` and reports every result: by backend and dtype, each as soon as those before it
    /// have ended.
    ///
    /// # Errors
    /// Those of a bad fixture, of a worker that cannot be started, and of `report`.
    pub fn run(
        &self,
        backends: impl IntoIterator<Item = Backend>,
        report: &mut dyn FnMut(CaseResult) -> Result<()>,
    ) -> Result<()> {
        let parts = backends.into_iter().flat_map(parts);
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
        let Part { backend, share } = part;
        // Nobody listens any more when the report has failed; the error is told there.
        let mut send = |result| {
            let _ = results.send(result);
            Ok(())
        };
        if let Some(reason) = self.unavailable.reason(backend) {
            let wanted = if self.dtypes.is_empty() { &[Precision::F32][..] } else { self.dtypes };
            let ours = |dtype: &&Precision| share.is_none_or(|share| share == **dtype);
            let wanted: Vec<_> = wanted.iter().filter(ours).copied().collect();
            return unavailable(backend, self.cases, &wanted, reason, &mut send);
        }
        let (program, manifest) = (self.program, self.manifest);
        run_backend(program, backend, manifest, self.cases, self.dtypes, share, &mut send)
    }
}

fn parts(backend: Backend) -> Vec<Part> {
    let shares = if backend.compiles_kernels() { Precision::ALL.map(Some).to_vec() } else { vec![None] };
    shares.into_iter().map(|share| Part { backend, share }).collect()
}
