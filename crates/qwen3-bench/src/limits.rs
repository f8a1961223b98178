//! What this machine can do at most.

use qwen3_report::bench::Limits;

/// Measures reading and computing with `threads`, for about two seconds.
pub fn limits(threads: usize) -> Limits {
    Limits { threads, ..Limits::default() }
}
