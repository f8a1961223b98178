//! The chat without a terminal.

use std::fs;

use serde_json::{Value, json};

use crate::common::*;

const GREEDY: [&str; 2] = ["--greedy", "--no-thinking"];

/// Lines that are not empty.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn commands_are_obeyed_and_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let input = format!(
        "/regen\n/system\n/system Be brief.\n/system\nWhat is 3 + 4?\n/regen\n/save {0}\n/save\n/nonsense\n/help\n\
         /save {1}\n/clear\n/regen\n",
        file.display(),
        folder.path().display()
    );
    let (answers, said) = done(run("chat", &GREEDY, input.as_bytes()));
    let answers = lines(&answers);
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].contains('7'), "{answers:?}");
    // Greedy: the same question has the same answer.
    assert_eq!(answers[1], answers[0]);
    for part in [
        "there is no system message",
        "the system message is set",
        "\nBe brief.\n",
        "3 messages saved to",
        "/save FILE is how it is used",
        "there is no /nonsense: /help",
        "answer the last message once more",
        "is a folder",
        "the conversation begins again",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(said.matches("there is no answer yet").count(), 2, "{said}");
    let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved[0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(saved[1], json!({"role": "user", "content": "What is 3 + 4?"}));
    assert_eq!((&saved[2]["role"], saved.as_array().unwrap().len()), (&json!("assistant"), 3));
    // And it is what `generate` reads.
    let words = ["--messages", file.to_str().unwrap(), "--greedy", "--max-new-tokens", "4"];
    done(run("generate", &words, b""));
}

/// An answer is made anew with other random numbers.
#[test]
fn an_answer_can_be_had_again() {
    let words = [&["--no-thinking", "--seed", "1", "--max-new-tokens", "8"], &ANY_TOKEN[..]].concat();
    let (answers, _) = done(run("chat", &words, b"What is 3 + 4?\n/regen\n"));
    let (first, _) = done(run("chat", &words, b"What is 3 + 4?\n"));
    let again = answers.strip_prefix(&first[..]).unwrap();
    assert_ne!(again.trim(), "");
    assert_ne!(again, first);
}

#[test]
fn an_answer_that_is_cut_says_so() {
    let words = [&["--no-thinking", "--seed", "1", "--context", "60"], &ANY_TOKEN[..]].concat();
    let (_, said) = done(run("chat", &words, b"What is 3 + 4?\n"));
    assert!(said.contains("the answer is cut") && said.contains("60 tokens"), "{said}");
    let short = [&words[..], &["--max-new-tokens", "5"]].concat();
    let (_, said) = done(run("chat", &short, b"What is 3 + 4?\n"));
    assert!(said.contains("(length)") && !said.contains("is cut"), "{said}");
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    let (answers, said) = done(run("chat", &GREEDY, b"\xff\xfe\nWhat is 3 + 4?\n"));
    assert!(said.contains("not UTF-8"), "{said}");
    assert!(lines(&answers).last().unwrap().contains('7'), "{answers}");
}
