//! A pseudo-terminal with the chat at its other end.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::common::command;

/// The prompt as it is drawn, behind what begins a line.
pub const PROMPT: &str = "> ";
pub const CTRL_C: &str = "\u{3}";
pub const UP: &str = "\u{1b}[A";

/// Somebody at a terminal.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// How much of the screen has been looked at.
    seen: usize,
}

impl Terminal {
    /// `qwen3 chat` on the small model; what it keeps is kept in the folder `state`.
    pub fn chat(state: &Path, words: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = command("chat", words);
        command.env("TERM", "xterm").env("NO_COLOR", "1").env("XDG_STATE_HOME", state);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut output = File::from(pty.master.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&screen);
        spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when the other end is closed.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                written.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Self { child, keyboard: pty.master.into(), screen, seen: 0 }
    }

    pub fn types(&mut self, text: &str) {
        self.types_bytes(text.as_bytes());
    }

    pub fn types_bytes(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).unwrap();
    }

    /// All that was shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until this is shown behind what was waited for before.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let found = screen[self.seen..].windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                self.seen += at + text.len();
                return;
            }
            let rest = String::from_utf8_lossy(&screen[self.seen..]).into_owned();
            assert!(begun.elapsed() < Duration::from_secs(60), "no {text:?} in {rest:?}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until lines are not shown while they are typed, as while an answer is written.
    #[track_caller]
    pub fn hides_what_is_typed(&self) {
        let begun = Instant::now();
        loop {
            let flags = tcgetattr(&self.keyboard).unwrap().local_flags;
            if flags.contains(LocalFlags::ICANON) && !flags.contains(LocalFlags::ECHO) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", self.screen());
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a prompt, and until it can be typed at.
    #[track_caller]
    pub fn prompts(&mut self) {
        self.shows(PROMPT);
        sleep(Duration::from_millis(50));
    }

    /// Waits for its end; its exit code.
    #[track_caller]
    pub fn ends(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end: {:?}", self.screen());
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
