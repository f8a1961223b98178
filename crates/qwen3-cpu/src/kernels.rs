use std::sync::Arc;

use crate::scratch::Scratch;
use crate::{InstructionSet, Threads};

/// The kernels of an instruction set on some threads. Every method checks its lengths and panics with them.
#[derive(Debug)]
pub struct Kernels {
    pub(crate) set: InstructionSet,
    pub(crate) threads: Arc<Threads>,
    pub(crate) units: Scratch<u32>,
    pub(crate) floats: Scratch<f32>,
}

impl Kernels {
    /// Those of `set` on `threads`.
    ///
    /// # Panics
    /// When this machine does not have `set`.
    pub fn new(set: InstructionSet, threads: Arc<Threads>) -> Self {
        assert!(set.is_available(), "this machine has no {set}");
        Self { set, threads, units: Scratch::default(), floats: Scratch::default() }
    }

    /// The fastest of this machine, on all of its cores.
    pub fn best() -> Self {
        Self::new(InstructionSet::best(), Arc::new(Threads::all()))
    }

    /// The instruction set.
    pub fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    /// The threads.
    pub fn threads(&self) -> &Arc<Threads> {
        &self.threads
    }
}
