//! Ctrl-C.

use std::path::PathBuf;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use qwen3_text::Cancel;

use crate::failure::note;

/// The shell's exit code for a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// What Ctrl-C does: it ends the text being generated, and the command when none is, or when it comes
/// again.
#[derive(Clone, Default)]
pub struct Interrupt {
    cancel: Cancel,
    generating: Arc<AtomicBool>,
    unfinished: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Takes Ctrl-C over from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> Result<Self> {
        let interrupt = Self::default();
        let there = interrupt.clone();
        ctrlc::set_handler(move || there.arrived()).context("Ctrl-C cannot be handled")?;
        Ok(interrupt)
    }

    /// Runs a generation that Ctrl-C ends.
    pub fn generating<T>(&self, run: impl FnOnce(Cancel) -> T) -> T {
        self.cancel.reset();
        self.generating.store(true, Ordering::SeqCst);
        let result = run(self.cancel.clone());
        self.generating.store(false, Ordering::SeqCst);
        result
    }

    /// A folder that is removed when the command is ended while `run` runs.
    pub fn with_unfinished<T>(&self, folder: PathBuf, run: impl FnOnce() -> T) -> T {
        let set = |value| {
            if let Ok(mut unfinished) = self.unfinished.lock() {
                *unfinished = value;
            }
        };
        set(Some(folder));
        let result = run();
        set(None);
        result
    }

    fn arrived(&self) {
        if self.generating.load(Ordering::SeqCst) && !self.cancel.is_cancelled() {
            self.cancel.cancel();
            return;
        }
        // Held to the end, so that the work that is ended cannot go on to fail for want of its folder.
        let mut unfinished = self.unfinished.lock();
        if let Ok(unfinished) = &mut unfinished
            && let Some(folder) = unfinished.take()
        {
            // There is nobody to tell of an error any more.
            let _ = std::fs::remove_dir_all(folder);
        }
        note("");
        exit(INTERRUPTED);
    }
}
