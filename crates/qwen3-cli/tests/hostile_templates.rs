//! `qwen3 render` on templates that attack it: one error line or a prompt, soon, and in little memory.
#![cfg(all(feature = "flex", unix))]

#[path = "../../qwen3-text/tests/common/hostile.rs"]
mod hostile;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hostile::templates;
use wait4::Wait4;

const SECONDS: Duration = Duration::from_secs(10);
const BYTES: u64 = 500_000_000;

#[test]
fn hostile_templates_end_in_an_error_line() {
    // The library's tests render them all; here each takes two starts of the program, which has large libraries.
    let (mut all, mut at) = (templates(), 0);
    all.retain(|(name, _)| {
        at += 1;
        if name.ends_with("deep") { at % 16 == 0 } else { at % 3 != 0 }
    });
    assert!(all.len() >= 91, "{}", all.len());
    let all = Mutex::new(all);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, source)) = { all.lock().unwrap().pop() } {
                    render(&name, &source);
                }
            });
        }
    });
}

/// A long text takes memory in proportion, and little of it.
#[test]
fn a_long_text_is_tokenized_in_little_memory() {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny");
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("text");
    let peak = |text: &str| {
        fs::write(&input, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
        command.arg("tokenize").arg("--model").arg(&tiny);
        command.stdin(fs::File::open(&input).unwrap()).stdout(Stdio::null());
        let used = command.spawn().unwrap().wait4().unwrap();
        assert!(used.status.success());
        used.rusage.maxrss
    };
    let text = "What is 12 plus 30? It is 42, they said.\n".repeat(50_000);
    let (idle, busy) = (peak(""), peak(&text));
    let times = busy.saturating_sub(idle) as f64 / text.len() as f64;
    assert!(times < 20.0, "{idle} bytes for nothing, {busy} for {} bytes of text: {times} times", text.len());
}

fn render(name: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    fs::write(&messages, r#"[{"role": "user", "content": "hi"}]"#).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    let (status, errors, taken, bytes) = run(folder.path(), &messages);
    println!("{name}: {:.2} s, {} MB: {errors:.200}", taken.as_secs_f64(), bytes / 1_000_000);
    match status {
        Some(0) => assert_eq!(errors, "", "{name}"),
        Some(2) => {
            assert_eq!(errors.lines().count(), 1, "{name}: {errors}");
            assert!(
                errors.starts_with("error: ") && errors.contains("chat_template.jinja"),
                "{name}: {errors}"
            );
            assert!(!errors.contains("internal"), "{name}: {errors}");
        }
        status => panic!("{name}: {status:?}: {errors}"),
    }
    assert!(taken < SECONDS, "{name}: {taken:?}");
    assert!(bytes < BYTES, "{name}: {bytes} bytes");
}

/// Exit code, standard error, time, and the largest resident set of the command and of what it started.
fn run(model: &Path, messages: &Path) -> (Option<i32>, String, Duration, u64) {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwen3"));
    command.arg("render").arg("--model").arg(model).arg("--messages").arg(messages);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let used = child.wait4().unwrap();
    (used.status.code(), errors, begun.elapsed(), used.rusage.maxrss)
}
