//! A JSON document, by its structure.

use crate::hostile;
use crate::json::{Json, quoted};
use crate::mutate::bytes;
use crate::random::Random;

/// Levels of nesting that no reader should follow.
const DEEP: usize = 20_000;

/// A changed document as bytes: changed in one to three places, and now and then as text.
pub fn mutate(random: &mut Random, mut json: Json) -> (Vec<u8>, String) {
    let mut done = Vec::new();
    for _ in 0..*random.pick(&[1, 1, 1, 2, 3]) {
        done.push(node(random, &mut json));
    }
    if random.once_in(6) {
        done.clear();
        let mut bytes = json.bytes();
        let what = bytes::text(random, &mut bytes);
        return (bytes, what);
    }
    (json.bytes(), done.join("; "))
}

/// Changes one place of the document.
pub fn node(random: &mut Random, root: &mut Json) -> String {
    // From the root down; shallow places are as likely as the many deep ones.
    let mut path = String::new();
    let mut node = root;
    while !node.is_empty() && !random.once_in(5) {
        let index = random.below(node.len());
        path += &match &*node {
            Json::Object(entries) => format!(".{}", String::from_utf8_lossy(&entries[index].0)),
            _ => format!("[{index}]"),
        };
        if random.once_in(3)
            && let Some(what) = entry(random, node, index)
        {
            return format!("{path} {what}");
        }
        node = node.child(index).expect("below the length");
    }
    let what = value(random, node);
    format!("{path} {what}")
}

/// Changes an entry of an object or a list together with its key.
fn entry(random: &mut Random, parent: &mut Json, index: usize) -> Option<String> {
    match parent {
        Json::Object(entries) => Some(match random.below(5) {
            0 => {
                entries.remove(index);
                "left out".into()
            }
            1 => {
                let mut twin = entries[index].clone();
                if random.once_in(2) {
                    value(random, &mut twin.1);
                }
                entries.push(twin);
                "there twice".into()
            }
            2 => {
                let text = hostile::text(random);
                entries[index].0 = quoted(&text);
                format!("renamed to {}", short(&text))
            }
            3 => {
                entries[index].0 = (*random.pick(&["\"\\ud800\"", "1", "null", "\"\\x\"", ""])).into();
                "with a key that is none".into()
            }
            _ => {
                let text = hostile::text(random);
                let mut new = Json::raw("null");
                value(random, &mut new);
                entries.insert(index, (quoted(&text), new));
                format!("after an unknown {}", short(&text))
            }
        }),
        Json::List(items) => Some(match random.below(3) {
            0 => {
                items.remove(index);
                "left out".into()
            }
            1 => {
                let twin = items[index].clone();
                items.push(twin);
                "there twice".into()
            }
            _ => {
                let twin = items[index].clone();
                items.extend(std::iter::repeat_n(twin, 2000));
                "there 2000 times".into()
            }
        }),
        Json::Raw(_) => None,
    }
}

/// Puts something else in the place of a value.
fn value(random: &mut Random, node: &mut Json) -> String {
    if let Json::Raw(raw) = &*node
        && random.once_in(3)
        && let Some(number) = std::str::from_utf8(raw).ok().and_then(|text| text.parse::<f64>().ok())
    {
        let near = [number + 1.0, number - 1.0, number * 2.0, number / 2.0, -number, number * 1e6];
        let near = format!("{}", random.pick(&near));
        *node = Json::raw(near.clone());
        return format!("{number} made {near}");
    }
    match random.below(10) {
        0..3 => {
            let number = hostile::number(random);
            *node = Json::raw(number.clone());
            format!("made {}", short(&number))
        }
        3..6 => {
            let text = hostile::text(random);
            *node = Json::Raw(quoted(&text));
            format!("made {}", short(&text))
        }
        6 => {
            let (open, close) = *random.pick(&[("[", "]"), ("{\"a\":", "}")]);
            *node = Json::raw(open.repeat(DEEP) + "0" + &close.repeat(DEEP));
            "nested 20,000 deep".into()
        }
        7 => {
            *node = Json::List(vec![node.clone()]);
            "put into a list".into()
        }
        8 => {
            let inner = if node.is_empty() { Json::raw("{}") } else { node.child(0).expect("one").clone() };
            *node = inner;
            "made its first entry".into()
        }
        _ => {
            let other =
                *random.pick(&["null", "true", "false", "[]", "{}", "\"\"", "\"\\ud800\"", "[null]", ""]);
            *node = Json::raw(other);
            format!("made {other}")
        }
    }
}

/// The beginning of a text, for people.
pub fn short(text: &str) -> String {
    let beginning: String = text.chars().take(40).collect();
    let more = if beginning.len() < text.len() { ".." } else { "" };
    format!("{beginning:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_gives_something_and_always_the_same() {
        let json = Json::parse(br#"{"a": [1, {"b": "c"}], "d": null}"#).unwrap();
        let make = |index| mutate(&mut Random::new(0, "json", index), json.clone());
        let changed = (0..500).filter(|index| make(*index).0 != json.bytes()).count();
        assert!(changed > 450, "{changed}");
        assert!((0..500).all(|index| make(index) == make(index)));
    }
}
