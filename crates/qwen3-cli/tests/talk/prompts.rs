//! Where `qwen3 generate` takes its prompt from.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::common::*;

const GREEDY: [&str; 3] = ["--greedy", "--max-new-tokens", "12"];

fn generate(words: &[&str], input: &[u8]) -> std::process::Output {
    run("generate", &[words, &GREEDY].concat(), input)
}

#[test]
fn a_prompt_comes_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, "1 2 3 4\n").unwrap();
    let file = file.to_str().unwrap();
    let (expected, _) = done(generate(&["--prompt", "1 2 3 4"], b""));
    assert!(expected.contains('5'), "{expected}");
    for words in [["--prompt", "-"], ["--prompt-file", "-"], ["--prompt-file", file], ["--file", file]] {
        assert_eq!(done(generate(&words, b"1 2 3 4\n")).0, expected, "{words:?}");
    }
    // More than one line end is the prompt's own.
    assert_ne!(done(generate(&["--prompt", "-"], b"1 2 3 4\n\n\n")).0, expected);
}

#[test]
fn a_prompt_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    let path = file.to_str().unwrap();
    assert_refused(generate(&["--prompt-file", path], b""), &["prompt.txt"]);
    fs::write(&file, "\n").unwrap();
    assert_refused(generate(&["--prompt-file", path], b""), &["prompt.txt is empty"]);
    fs::write(&file, b"\xff").unwrap();
    assert_refused(generate(&["--prompt-file", path], b""), &["prompt.txt is not UTF-8"]);
    assert_refused(generate(&["--prompt", "-"], b""), &["standard input is empty"]);
    assert_refused(generate(&[], b""), &["--prompt", "--messages"]);
    assert_refused(generate(&["--prompt", "a", "--prompt-file", path], b""), &["cannot be used with"]);
    assert_refused(generate(&["--prompt", "a", "--no-thinking"], b""), &["--no-thinking"]);
    assert_refused(generate(&["--messages", path], b""), &["prompt.txt is not UTF-8"]);
    fs::write(&file, r#"[{"content": "a"}]"#).unwrap();
    assert_refused(generate(&["--messages", path], b""), &["prompt.txt", "messages[0].role"]);
}

/// The prompt is what `qwen3 render` makes of the messages.
#[test]
fn a_conversation_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let messages =
        r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 3 + 4?"}]"#;
    fs::write(&file, messages).unwrap();
    let file = file.to_str().unwrap();
    for more in [&[][..], &["--no-thinking"]] {
        let render = [&["--messages", file, "--add-generation-prompt"], more].concat();
        let (prompt, _) = done(run("render", &render, b""));
        let (expected, _) = done(generate(&["--prompt", &prompt], b""));
        let (answer, _) = done(generate(&[&["--messages", file], more].concat(), b""));
        assert_eq!(answer, expected);
        let object = format!(r#"{{"messages": {messages}}}"#);
        let (answer, _) = done(generate(&[&["--messages", "-"], more].concat(), object.as_bytes()));
        assert_eq!(answer, expected);
    }
    let (answer, _) = done(generate(&["--messages", file, "--no-thinking"], b""));
    assert!(answer.contains('7'), "{answer}");
}

/// Whoever reads a pipe gets each token when it is there.
#[test]
fn text_does_not_wait_for_its_end() {
    let words = [&["--prompt", "1 2", "--max-new-tokens", "1900", "--seed", "1"], &ANY_TOKEN[..]].concat();
    let mut child = command("generate", &words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let still = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(still, "the text came when it was complete");
}
