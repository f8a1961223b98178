//! `tokenizer.json`: parts that the tokenizers crate obeys without asking what they cost.

use crate::json::Json;
use crate::mutate::json;
use crate::random::Random;

/// (place, what is put there).
const PARTS: [(&str, &str); 24] = [
    ("normalizer", r#"{"type":"Precompiled","precompiled_charsmap":""}"#),
    ("normalizer", r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#),
    ("normalizer", r#"{"type":"Precompiled","precompiled_charsmap":"/////w=="}"#),
    ("normalizer", r#"{"type":"Precompiled","precompiled_charsmap":"BAAAAP////8AAA=="}"#),
    ("normalizer", r#"{"type":"Replace","pattern":{"String":""},"content":"a"}"#),
    ("normalizer", r#"{"type":"Replace","pattern":{"Regex":""},"content":"aa"}"#),
    ("normalizer", r#"{"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":"b"}"#),
    ("normalizer", r#"{"type":"Replace","pattern":{"Regex":"(?=(a*))\\1b"},"content":"b"}"#),
    ("normalizer", r#"{"type":"Replace","pattern":{"Regex":"a{1000}{1000}"},"content":"b"}"#),
    ("normalizer", r#"{"type":"Prepend","prepend":""}"#),
    ("normalizer", r#"{"type":"Sequence","normalizers":[]}"#),
    ("pre_tokenizer", r#"{"type":"Split","pattern":{"String":""},"behavior":"Isolated","invert":true}"#),
    ("pre_tokenizer", r#"{"type":"Split","pattern":{"Regex":"(.*)*x"},"behavior":"Removed","invert":false}"#),
    ("pre_tokenizer", r#"{"type":"FixedLength","length":0}"#),
    ("pre_tokenizer", r#"{"type":"Metaspace","replacement":"ab","prepend_scheme":"always","split":true}"#),
    ("decoder", r#"{"type":"Strip","content":"a","start":18446744073709551615,"stop":18446744073709551615}"#),
    ("decoder", r#"{"type":"WordPiece","prefix":"","cleanup":true}"#),
    ("decoder", r#"{"type":"CTC","pad_token":"","word_delimiter_token":"","cleanup":true}"#),
    ("post_processor", r#"{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}"#),
    (
        "post_processor",
        r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}}"#,
    ),
    (
        "post_processor",
        r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{"x":{"id":"x","ids":[99999],"tokens":["x"]}}}"#,
    ),
    (
        "post_processor",
        r#"{"type":"RobertaProcessing","sep":["x",99999999],"cls":["y",4294967295],"trim_offsets":true,"add_prefix_space":true}"#,
    ),
    ("truncation", r#"{"max_length":0,"strategy":"LongestFirst","stride":5,"direction":"Right"}"#),
    (
        "padding",
        r#"{"strategy":{"Fixed":9999999999},"direction":"Left","pad_to_multiple_of":0,"pad_id":0,"pad_type_id":0,"pad_token":"x"}"#,
    ),
];

/// A changed tokenizer.
pub fn mutate(random: &mut Random, good: &[u8]) -> (Vec<u8>, String) {
    let Some(mut tokenizer) = Json::parse(good) else { return (good.to_vec(), "no JSON".into()) };
    match random.below(4) {
        0 => {
            let (place, part) = *random.pick(&PARTS);
            tokenizer.set(place, Json::raw(part));
            (tokenizer.bytes(), format!("{place}: {part}"))
        }
        1 => {
            // Each doubles what the one before made, or a chain of empty ones.
            let times = *random.pick(&[10, 34, 2000]);
            let content = *random.pick(&["aa", "a", "aaaaaaaaaaaaaaaa"]);
            let one = format!(r#"{{"type":"Replace","pattern":{{"String":"a"}},"content":"{content}"}}"#);
            let all = vec![one; times].join(",");
            tokenizer.set("normalizer", Json::raw(format!(r#"{{"type":"Sequence","normalizers":[{all}]}}"#)));
            (tokenizer.bytes(), format!("{times} times a is replaced by {content}"))
        }
        _ => json::mutate(random, tokenizer),
    }
}
