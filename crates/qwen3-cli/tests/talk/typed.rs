//! The chat at a terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::common::ANY_TOKEN;
use crate::terminal::*;

const GREEDY: [&str; 2] = ["--greedy", "--no-thinking"];

/// What the user said, in a conversation that was saved.
fn said(file: &Path) -> Vec<String> {
    let saved: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let messages = saved.as_array().unwrap().iter().filter(|message| message["role"] == "user");
    messages.map(|message| message["content"].as_str().unwrap().to_string()).collect()
}

#[test]
fn the_greeting_says_what_it_is() {
    let state = tempfile::tempdir().unwrap();
    let mut chat = Terminal::chat(state.path(), &["--seed", "7", "--context", "64", "--backend", "flex"]);
    chat.shows("trained-tiny on flex in f32, 64 tokens of context, seed 7");
    chat.prompts();
    chat.types("\u{4}");
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn ctrl_c_clears_a_line_and_leaves_an_empty_one_at_the_second_time() {
    let state = tempfile::tempdir().unwrap();
    let mut chat = Terminal::chat(state.path(), &GREEDY);
    chat.prompts();
    chat.types("some text");
    chat.shows("text");
    chat.types(CTRL_C);
    chat.prompts();
    chat.types(CTRL_C);
    chat.shows("Ctrl-C once more leaves");
    chat.prompts();
    // What is typed between the two makes the first forgotten.
    chat.types("x");
    chat.types(CTRL_C);
    chat.prompts();
    chat.types(CTRL_C);
    chat.shows("Ctrl-C once more leaves");
    chat.prompts();
    chat.types(CTRL_C);
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn pasted_lines_are_one_message() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("talk.json");
    let save = format!("/save {}\r", file.display());
    // As a terminal sends it that does not tell what is pasted; commands behind it stand alone.
    let mut chat = Terminal::chat(state.path(), &GREEDY);
    chat.prompts();
    chat.types(&format!("What is\r\r3 + 4?\r{save}/exit\r"));
    assert_eq!(chat.ends(), Some(0));
    assert_eq!(said(&file), ["What is\n\n3 + 4?"]);
    // Without an end of its last line, it waits for one.
    let mut chat = Terminal::chat(state.path(), &GREEDY);
    chat.prompts();
    chat.types("What is\r3 + 4");
    chat.prompts();
    chat.shows("3 + 4");
    chat.types("?");
    chat.types("\r");
    chat.shows("tok/s");
    chat.prompts();
    chat.types(&save);
    chat.shows("saved");
    assert_eq!(said(&file), ["What is\n3 + 4?"]);
    // As a terminal sends it that does tell.
    chat.types("/clear\r");
    chat.shows("begins again");
    chat.prompts();
    chat.types("\u{1b}[200~one\rtwo\u{1b}[201~");
    chat.shows("two");
    chat.types("\r");
    chat.shows("tok/s");
    chat.prompts();
    chat.types(&save);
    chat.shows("saved");
    assert_eq!(said(&file), ["one\ntwo"]);
}

/// What is typed while an answer is written is not shown in its midst, and not lost.
#[test]
fn what_is_typed_ahead_comes_after_the_answer() {
    let state = tempfile::tempdir().unwrap();
    let length = ["--seed", "1", "--max-new-tokens", "1200", "--context", "2000"];
    let words = [&length[..], &ANY_TOKEN].concat();
    let mut chat = Terminal::chat(state.path(), &words);
    chat.prompts();
    chat.types("begin\r");
    chat.hides_what_is_typed();
    chat.types("/ahead\r");
    chat.shows("generated at");
    let before = chat.screen();
    assert!(!before[..before.find("generated at").unwrap()].contains("ahead"), "{before:?}");
    chat.shows("there is no /ahead");
    chat.types("/exit\r");
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn lines_are_kept_for_their_owner() {
    let state = tempfile::tempdir().unwrap();
    let kept = state.path().join("deeper");
    let mut chat = Terminal::chat(&kept, &GREEDY);
    chat.prompts();
    chat.types("/clear\r");
    chat.shows("begins again");
    chat.prompts();
    chat.types("/exit\r");
    assert_eq!(chat.ends(), Some(0));
    let folder = kept.join("qwen3-burn");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("chat-history"))), (0o700, 0o600));
    let mut chat = Terminal::chat(&kept, &GREEDY);
    chat.prompts();
    chat.types(UP);
    chat.shows("/exit");
    chat.types(UP);
    chat.shows("/clear");
    chat.types("\r");
    chat.shows("begins again");
    chat.types("\u{4}");
    assert_eq!(chat.ends(), Some(0));
}

#[test]
fn a_byte_that_is_not_utf_8_does_not_end_it() {
    let state = tempfile::tempdir().unwrap();
    let mut chat = Terminal::chat(state.path(), &GREEDY);
    chat.prompts();
    chat.types("What is ");
    chat.shows("is ");
    chat.types_bytes(b"\xff ");
    chat.shows("not UTF-8");
    chat.shows("What is \u{fffd}");
    chat.types("3 + 4?");
    chat.types("\r");
    chat.shows("tok/s");
    chat.types("\u{4}");
    assert_eq!(chat.ends(), Some(0));
}
