//! Progress on stderr, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` of something.
pub fn bar(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style("{msg:>12} {wide_bar} {percent:>3} % {eta:>4}"));
    bar.set_message(what.to_string());
    bar
}

/// A bar over bytes.
pub fn bytes(what: &str, total: u64) -> ProgressBar {
    let bar = bar(what, total);
    bar.set_style(style("{msg:>12} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}"));
    bar
}

/// A sign of life for work whose end is not known.
pub fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.set_style(style("{msg:>12} {spinner} {elapsed}"));
    spinner.set_message(what.to_string());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template of this file")
}
