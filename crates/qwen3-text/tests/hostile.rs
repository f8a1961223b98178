//! Broken and hostile files end in errors that name what is wrong, never in a panic.

mod common;

use std::fs;
use std::path::Path;

use common::root;
use qwen3_text::{
    ChatTemplate, Conversation, GenerationConfig, Message, RenderOptions, TextError, Tokenizer,
};
use serde_json::json;

fn tiny() -> std::path::PathBuf {
    root().join("fixtures/checkpoints/trained-tiny")
}

fn rendered(source: &str) -> Result<String, TextError> {
    let messages = [Message::user("hi")];
    ChatTemplate::parse(source)?.render(&messages, &RenderOptions::default())
}

#[test]
fn a_truncated_tokenizer() {
    let whole = fs::read(tiny().join("tokenizer.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Tokenizer::open(dir.path()), Err(TextError::NoTokenizer { .. })));
    for length in (0..whole.len() - 2).step_by(211) {
        fs::write(dir.path().join("tokenizer.json"), &whole[..length]).unwrap();
        let error = Tokenizer::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn a_tokenizer_of_wrong_types() {
    let whole = fs::read_to_string(tiny().join("tokenizer.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let wrong = ["null", "[]", "{}", "-1", "\"x\"", "[[\"a\", \"zz\"]]", "{\"type\": \"Nope\"}"];
    let places = [
        "/model",
        "/model/vocab",
        "/model/merges",
        "/added_tokens",
        "/added_tokens/0/id",
        "/decoder",
        "/pre_tokenizer",
    ];
    for place in places {
        for value in wrong {
            let mut json = whole.clone();
            *json.pointer_mut(place).unwrap() = serde_json::from_str(value).unwrap();
            fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
            // Some of these are tokenizers of another kind; none may panic, not even in use.
            if let Ok(tokenizer) = Tokenizer::open(dir.path()) {
                let ids = tokenizer.encode("Hello <|im_end|> 你").unwrap_or_default();
                tokenizer.decode(&ids, true).unwrap();
            }
        }
    }
}

/// What a file describes stays in proportion to the text, and what the library does not expect is an error.
#[test]
fn a_tokenizer_out_of_proportion() {
    let whole = fs::read_to_string(tiny().join("tokenizer.json")).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = |key: &str, value: serde_json::Value| {
        let mut json = whole.clone();
        json[key] = value;
        fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        Tokenizer::open(dir.path())
    };
    let replace = |pattern: serde_json::Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
    let doubling = vec![replace(json!({ "String": "a" }), "aa"); 30];
    let huge = json!({ "type": "Precompiled", "precompiled_charsmap": "/////w==" });
    let refused = [
        ("normalizer", huge.clone(), "`normalizer.precompiled_charsmap`"),
        ("normalizer", json!({ "precompiled_charsmap": "/////w==" }), "`normalizer.precompiled_charsmap`"),
        (
            "normalizer",
            json!({ "type": "Sequence", "normalizers": [huge] }),
            "`normalizer.normalizers[0].precompiled_charsmap`",
        ),
        ("normalizer", replace(json!({ "String": "" }), "a"), "`normalizer.pattern` is empty"),
        ("normalizer", replace(json!({ "Regex": "" }), "a"), "`normalizer.pattern` is empty"),
        ("normalizer", json!({ "type": "Sequence", "normalizers": doubling }), "times longer"),
        ("normalizer", json!({ "type": "Prepend", "prepend": "a".repeat(1000) }), "times longer"),
        ("decoder", json!({ "type": "Sequence", "decoders": doubling }), "times longer"),
        ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 }), "`pre_tokenizer.length` is 0"),
        (
            "pre_tokenizer",
            json!({ "type": "Split", "pattern": { "Regex": "(".repeat(9000) }, "behavior": "Isolated", "invert": false }),
            "`pre_tokenizer.pattern`",
        ),
    ];
    for (key, value, expected) in refused {
        let error = open(key, value).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains(expected), "{expected}: {error}");
    }
    // These are taken, and must not harm.
    let text = "a".repeat(3000) + " hi";
    let taken = [
        ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhAA==" })),
        ("normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAP////9hAA==" })),
        (
            "pre_tokenizer",
            json!({ "type": "Split", "pattern": { "Regex": "(?=(a+)+b)(a+)+b" }, "behavior": "Isolated", "invert": false }),
        ),
        (
            "padding",
            json!({ "strategy": { "Fixed": u32::MAX }, "direction": "Right", "pad_to_multiple_of": u32::MAX, "pad_id": 0, "pad_type_id": 0, "pad_token": "x" }),
        ),
        (
            "truncation",
            json!({ "direction": "Right", "max_length": u64::MAX, "strategy": "LongestFirst", "stride": 0 }),
        ),
        (
            "post_processor",
            json!({ "type": "TemplateProcessing", "single": vec![json!({ "Sequence": { "id": "A", "type_id": 0 } }); 999], "pair": [], "special_tokens": {} }),
        ),
        ("decoder", json!({ "type": "Strip", "content": "a", "start": 0, "stop": u64::MAX })),
    ];
    for (key, value) in taken {
        // The library refuses some of them itself.
        if let Ok(tokenizer) = open(key, value) {
            let ids = tokenizer.encode(&text).unwrap_or_default();
            assert!(ids.len() <= text.len(), "{key}: {}", ids.len());
            let _ = tokenizer.decode(&ids, false);
        }
    }
}

#[test]
fn configs_that_disagree() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(tiny().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let cases = [
        ("{", "line 1"),
        ("[]", "not a JSON object"),
        (r#"{"eos_token": 5}"#, "`eos_token`"),
        (r#"{"eos_token": {"content": null}}"#, "`eos_token.content`"),
        (r#"{"added_tokens_decoder": []}"#, "`added_tokens_decoder`"),
        (r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#, "`added_tokens_decoder.x`"),
        (r#"{"added_tokens_decoder": {"7": {}}}"#, "`added_tokens_decoder.7`"),
        (r#"{"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}}"#, "`added_tokens_decoder.7`"),
        (r#"{"added_tokens_decoder": {"99999": {"content": "<new>"}}}"#, "`added_tokens_decoder.99999`"),
    ];
    for (config, expected) in cases {
        fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let error = Tokenizer::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json") && error.contains(expected), "{error}");
    }
    let size = Tokenizer::open(tiny()).unwrap().vocab_size();
    let config =
        format!(r#"{{"added_tokens_decoder": {{"{size}": {{"content": "<new>", "special": true}}}}}}"#);
    fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("<new>").unwrap(), [size as u32]);
    assert!(tokenizer.is_special(size as u32));
}

#[test]
fn templates_that_are_not_templates() {
    for (source, line) in [("a\n{% if %}", 2), ("{{ a", 1), ("\n\n{% endfor %}", 3), ("{% nope %}", 1)] {
        match ChatTemplate::parse(source) {
            Err(TextError::TemplateSyntax { line: found, .. }) => {
                assert_eq!(found, line, "{source}")
            }
            other => panic!("{source}: {other:?}"),
        }
    }
    let nested = "{{ ".to_string() + &"(".repeat(100_000) + &")".repeat(100_000) + " }}";
    assert!(ChatTemplate::parse(&nested).is_err());
    let nested = "{% if true %}".repeat(100_000);
    assert!(ChatTemplate::parse(&nested).is_err());
}

#[test]
fn templates_that_never_end() {
    let sources = [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{{ range(1000000000) }}",
        "{{ 'x' * 1000000000000 }}",
        "{{ ''[::-1] }}",
        "{% include 'default' %}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns.nope.nope }}",
    ];
    for source in sources {
        let error = rendered(source).unwrap_err();
        assert!(matches!(error, TextError::TemplateRender { .. }), "{source}: {error}");
    }
}

#[test]
fn a_template_says_what_it_refuses() {
    let error = rendered("a\n{% if true %}\n{{ raise_exception('no ' ~ messages[0].role) }}{% endif %}");
    match error.unwrap_err() {
        TextError::TemplateRaised { line, message, .. } => {
            assert_eq!((line, message.as_str()), (3, "no user"))
        }
        other => panic!("{other}"),
    }
    let inside = "{% macro f(x) %}{{ raise_exception(x) }}{% endmacro %}{{ f('deep') }}";
    assert!(matches!(rendered(inside), Err(TextError::TemplateRaised { message, .. }) if message == "deep"));
    assert!(matches!(
        rendered("{{ messages[0].nope.nope }}"),
        Err(TextError::TemplateRender { line: 1, .. })
    ));
    let template = ChatTemplate::parse("x").unwrap();
    let empty = template.render(&[], &RenderOptions::default());
    assert!(matches!(empty, Err(TextError::Option { option: "messages", .. })));
}

#[test]
fn message_files() {
    let read = |text: &str| Conversation::from_json(text, "talk.json");
    let whole =
        read(r#"{"tools": [{"name": "f"}], "messages": [{"role": "user", "content": "hi"}], "model": 1}"#);
    let whole = whole.unwrap();
    assert_eq!((whole.messages[0].role(), whole.messages[0].content()), ("user", Some("hi")));
    assert_eq!(whole.tools.map(|tools| tools.len()), Some(1));
    assert_eq!(read("[]").unwrap(), Conversation::default());
    let cases = [
        ("", "EOF"),
        ("3", "neither"),
        ("{}", "`messages` is missing"),
        (r#"{"messages": 1}"#, "`messages` is not a list"),
        ("[1]", "`messages[0]` is not an object"),
        (r#"[{"role": "user"}, {"content": "x"}]"#, "`messages[1].role` is missing"),
        (r#"[{"role": 1}]"#, "`messages[0].role` is not a string"),
        (r#"{"messages": [], "tools": {}}"#, "`tools` is not a list"),
        (r#"{"messages": [], "tools": [{}, 1]}"#, "`tools[1]` is not an object"),
    ];
    for (text, expected) in cases {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with("talk.json") && error.contains(expected), "{text}: {error}");
    }
    let deep =
        r#"[{"role": "user", "content": "#.to_string() + &"[".repeat(50_000) + &"]".repeat(50_000) + "}]";
    assert!(read(&deep).unwrap_err().to_string().contains("nested"));
}

#[test]
fn which_template_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let open = || ChatTemplate::open(dir.path());
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let render = |tools: bool| {
        let tools = tools.then(Vec::new);
        let options = RenderOptions { tools, ..RenderOptions::default() };
        open()?.render(&[Message::user("hi")], &options)
    };
    assert!(matches!(open(), Err(TextError::NoChatTemplate { .. })));
    write(
        "tokenizer_config.json",
        r#"{"chat_template": "one {{ eos_token }}{{ bos_token }}", "eos_token": "</s>"}"#,
    );
    assert_eq!(render(true).unwrap(), "one </s>");
    let two =
        r#"{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}"#;
    write("tokenizer_config.json", two);
    assert_eq!((render(false).unwrap(), render(true).unwrap()), ("d".into(), "t".into()));
    write("tokenizer_config.json", r#"{"chat_template": [{"name": "other", "template": "o"}]}"#);
    assert!(render(false).is_err());
    for wrong in ["5", r#"[{"name": "default"}]"#, r#"["x"]"#] {
        write("tokenizer_config.json", &format!("{{\"chat_template\": {wrong}}}"));
        assert!(open().unwrap_err().to_string().contains("chat_template"));
    }
    write("tokenizer_config.json", two);
    write("chat_template.jinja", "file");
    assert_eq!((render(false).unwrap(), render(true).unwrap()), ("file".into(), "file".into()));
    fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/tool_use.jinja", "more");
    assert_eq!((render(false).unwrap(), render(true).unwrap()), ("file".into(), "more".into()));
}

#[test]
fn a_directory_in_place_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let named = |error: TextError| {
        let text = error.to_string();
        assert!(text.contains("not a regular file"), "{text}");
    };
    named(Tokenizer::open(dir.path()).unwrap_err());
    named(ChatTemplate::open(dir.path()).unwrap_err());
    named(GenerationConfig::open(dir.path()).unwrap_err());
    let absent = Conversation::open(Path::new("/nowhere/talk.json")).unwrap_err();
    assert!(matches!(absent, TextError::Io { .. }), "{absent}");
}
