//! Ctrl-C, and the other signals that end a program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use qwen3_command::{Signal, on_signal};
use qwen3_text::Cancel;

use crate::failure::note;

/// What Ctrl-C does: it ends the text being generated, and the command when none is, or when it comes
/// again. Other signals end the command.
#[derive(Clone, Default)]
pub struct Interrupt {
    cancel: Cancel,
    generating: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes the signals over from now on; the first call does.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> Result<Self> {
        static INSTALLED: OnceLock<Interrupt> = OnceLock::new();
        if let Some(interrupt) = INSTALLED.get() {
            return Ok(interrupt.clone());
        }
        let interrupt = INSTALLED.get_or_init(Self::default).clone();
        let there = interrupt.clone();
        on_signal(move |signal| there.survives(signal)).context("signals cannot be handled")?;
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

    /// Does the command go on after this signal?
    fn survives(&self, signal: Signal) -> bool {
        if signal != Signal::Interrupt {
            return false;
        }
        let generating = self.generating.load(Ordering::SeqCst) && !self.cancel.is_cancelled();
        if generating {
            self.cancel.cancel();
        } else {
            note("");
        }
        generating
    }
}
