//! A terminal that does not show what is typed.

#[cfg(unix)]
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
#[cfg(unix)]
use qwen3_command::{OnEnd, on_end};

/// While it lives, the terminal does not show what is typed: that would end up between the text that is written and
/// the bars that are wiped out. It is not lost: the next line begins with it. Nothing where the input is no terminal.
pub struct Silent {
    #[cfg(unix)]
    #[allow(dead_code, reason = "dropped")]
    shows: Option<(Shows, OnEnd)>,
}

#[cfg(unix)]
impl Silent {
    /// Standard input does not show any more what is typed.
    pub fn input() -> Self {
        let shows = on_end(|| {
            let before = tcgetattr(std::io::stdin())?;
            let mut silent = before.clone();
            silent.local_flags.remove(LocalFlags::ECHO);
            tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &silent)?;
            let again = Shows(before.clone());
            Ok((Shows(before), move |_| drop(again)))
        });
        Self { shows: shows.ok() }
    }
}

/// Sets the terminal to what it was, when it is dropped.
#[cfg(unix)]
struct Shows(Termios);

#[cfg(unix)]
impl Drop for Shows {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(not(unix))]
impl Silent {
    /// Nothing: other systems have no such switch that a signal would set back.
    pub fn input() -> Self {
        Self {}
    }
}
