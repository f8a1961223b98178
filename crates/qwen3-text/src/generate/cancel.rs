use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a [`Generation`](super::Generation) from another thread or a signal handler.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the generation to end after the chunk or step that it is in.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request back, for the next generation with this handle.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Has it been asked to end?
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
