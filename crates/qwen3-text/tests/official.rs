//! Against the official tokenizer of Qwen3-0.6B, where it is at hand.

mod common;

use std::fs;

use common::assets;
use qwen3_text::{
    ChatTemplate, GenerationConfig, Message, RenderOptions, TemplateValue, TextError, ThinkingTokens,
    ThinkingTracker, Tokenizer, parse_json,
};

#[test]
fn the_goldens_of_llama_cpp() {
    let Some(assets) = assets("the_goldens_of_llama_cpp") else {
        return;
    };
    let tokenizer = Tokenizer::open(assets.join("Qwen3-0.6B")).unwrap();
    let read = |name: &str| fs::read_to_string(assets.join("tokenizer-goldens").join(name)).unwrap();
    let (input, output) = (read("llama.cpp-qwen2.inp"), read("llama.cpp-qwen2.out"));
    let texts: Vec<&str> = input.split_terminator("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = output.lines().collect();
    assert_eq!((texts.len(), ids.len()), (46, 46));
    for (text, ids) in texts.iter().zip(ids) {
        let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn what_the_checkpoint_says_of_itself() {
    let Some(assets) = assets("what_the_checkpoint_says_of_itself") else {
        return;
    };
    let folder = assets.join("Qwen3-0.6B");
    let tokenizer = Tokenizer::open(&folder).unwrap();
    assert_eq!(tokenizer.vocab_size(), 151_669);
    assert_eq!((tokenizer.eos_token_id(), tokenizer.pad_token_id()), (Some(151_645), Some(151_643)));
    assert_eq!(tokenizer.id("<|im_start|>"), Some(151_644));
    assert_eq!(tokenizer.token(151_667).as_deref(), Some("<think>"));
    assert!(tokenizer.is_special(151_645) && !tokenizer.is_special(151_667));
    let beyond = tokenizer.decode(&[0, 151_669], false);
    assert!(matches!(beyond, Err(TextError::UnknownToken { id: 151_669, vocab_size: 151_669 })));
    assert!(tokenizer.stream(false).push(u32::MAX).is_err());

    let config = GenerationConfig::open(&folder).unwrap();
    assert_eq!(config.eos_token_ids, [151_645, 151_643]);
    let options = config.sampling_options();
    assert_eq!((options.greedy, options.temperature), (false, 0.6));
    assert_eq!((options.top_k, options.top_p, options.min_p), (20, 0.95, None));
}

#[test]
fn prompts_open_and_close_reasoning() {
    let Some(assets) = assets("prompts_open_and_close_reasoning") else {
        return;
    };
    let folder = assets.join("Qwen3-0.6B");
    let (tokenizer, template) = (Tokenizer::open(&folder).unwrap(), ChatTemplate::open(&folder).unwrap());
    let tokens = ThinkingTokens::of(&tokenizer);
    assert_eq!(tokens.map(|tokens| (tokens.start, tokens.end)), Some((151_667, 151_668)));
    let prompt = |enable_thinking| {
        let options =
            RenderOptions { enable_thinking, add_generation_prompt: true, ..RenderOptions::default() };
        template.render(&[Message::user("What is <think>?")], &options).unwrap()
    };
    let off = prompt(Some(false));
    assert!(off.ends_with("<think>\n\n</think>\n\n"));
    for (text, thinking) in
        [(off.as_str(), false), (&prompt(None), false), (&(prompt(None) + "<think>\n"), true)]
    {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ThinkingTracker::new(tokens, &ids).is_thinking(), thinking, "{text}");
    }
}

#[test]
fn tools_keep_their_order_and_numbers() {
    let Some(assets) = assets("tools_keep_their_order_and_numbers") else {
        return;
    };
    let template = ChatTemplate::open(assets.join("Qwen3-0.6B")).unwrap();
    let tool = r#"{"z": {"b": 1.0, "a": [1e-07, 10000000000000000000000, "<é>"]}, "c": null}"#;
    let options = RenderOptions { tools: Some(vec![parse_json(tool).unwrap()]), ..RenderOptions::default() };
    let calls = parse_json(r#"[{"name": "f", "arguments": {"y": 1e16, "x": true}}]"#).unwrap();
    let messages = [Message::user("go"), Message::assistant("").with("tool_calls", calls)];
    let prompt = template.render(&messages, &options).unwrap();
    assert!(prompt.contains(&format!("<tools>\n{tool}\n</tools>")), "{prompt}");
    assert!(prompt.contains(r#"{"name": "f", "arguments": {"y": 1e+16, "x": true}}"#), "{prompt}");
    let options =
        RenderOptions { tools: Some(vec![TemplateValue::from("no object")]), ..RenderOptions::default() };
    assert!(matches!(template.render(&messages, &options), Err(TextError::Option { option: "tools", .. })));
}
