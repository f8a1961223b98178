//! Templates that attack whoever renders them: the library gives an error or a prompt, never an abort.

#![cfg(unix)]

#[path = "common/hostile.rs"]
mod hostile;

use std::process::Command;
use std::time::{Duration, Instant};

use hostile::templates;
use qwen3_text::{ChatTemplate, Message, RenderOptions};

/// Says to the test below that it runs in a process of its own.
const INSIDE: &str = "QWEN3_HOSTILE_INSIDE";

/// In a process of its own, so that an abort is a failed test.
#[test]
fn no_template_ends_a_process_that_renders_it() {
    if std::env::var_os(INSIDE).is_some() {
        return render_all();
    }
    // With an end to the memory it can have, should the limits fail.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 8000000; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "no_template_ends_a_process_that_renders_it", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    assert!(output.status.success(), "{}: {last:?}\n{errors}", output.status);
}

fn render_all() {
    let messages = [Message::user("hi"), Message::assistant("ho"), Message::user("hi")];
    let all = templates();
    assert!(all.len() >= 91, "{}", all.len());
    let mut rendered = 0;
    for (name, source) in all {
        println!("{name}");
        let begun = Instant::now();
        let template = ChatTemplate::parse(&source);
        match template.and_then(|template| template.render(&messages, &RenderOptions::default())) {
            Ok(_) => rendered += 1,
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with("chat template: line "), "{name}: {error}");
                println!("    {error:.200}");
            }
        }
        println!("    {:.2} s, {} MiB so far", begun.elapsed().as_secs_f64(), peak_mib());
        assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
    }
    println!("{rendered} rendered");
    assert!(peak_mib() < 500, "{} MiB", peak_mib());
}

/// The largest resident set of this process so far; 0 where the system does not tell.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) / 1024
}
