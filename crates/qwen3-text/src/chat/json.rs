use std::fmt;

use minijinja::Value;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper JSON than this is refused, as `serde_json` does for its own values.
const MAX_DEPTH: usize = 128;

/// JSON as Python reads it: objects keep the order of their keys (of equal keys the last value wins, at
/// the first one's place), and `1`, `1.0` and integers beyond 64 bits stay what they are.
///
/// # Errors
/// What is wrong and where: not JSON, nested deeper than 128, or an integer beyond 128 bits.
pub fn parse_json(text: &str) -> Result<Value, String> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
    value(raw, 0)
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    let text = raw.get();
    match text.as_bytes()[0] {
        b'{' => {
            let Entries(entries) = parse(text)?;
            let entries = entries.into_iter().map(|(key, raw)| {
                let value = value(raw, depth + 1).map_err(|reason| within(&key, reason))?;
                Ok((key, value))
            });
            Ok(Value::from_pairs(entries.collect::<Result<Vec<_>, String>>()?))
        }
        b'[' => {
            let items: Vec<&RawValue> = parse(text)?;
            let items = items.into_iter().map(|raw| value(raw, depth + 1));
            Ok(Value::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        b'"' => Ok(Value::from(parse::<String>(text)?)),
        b't' | b'f' => Ok(Value::from(text == "true")),
        b'n' => Ok(Value::from(())),
        _ => number(text),
    }
}

fn number(text: &str) -> Result<Value, String> {
    if text.contains(['.', 'e', 'E']) {
        // Not through serde_json, which refuses what Python reads as infinity.
        let float: f64 = text.parse().map_err(|_| format!("{text} is not a number"))?;
        return Ok(Value::from(float));
    }
    if let Ok(small) = text.parse::<i64>() {
        return Ok(Value::from(small));
    }
    let large: i128 = text.parse().map_err(|_| format!("integer {text} is beyond 128 bits"))?;
    Ok(Value::from(large))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Says under which key something is wrong: the innermost comes last.
fn within(key: &str, reason: String) -> String {
    if reason.len() > 200 { reason } else { format!("under {key:?}: {reason}") }
}

/// An object's entries in the order of the text.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllEntries;
        impl<'de> Visitor<'de> for AllEntries {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(AllEntries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::python::{JsonStyle, to_json};

    fn round_trip(text: &str) -> String {
        to_json(&parse_json(text).unwrap(), &JsonStyle::default()).unwrap()
    }

    #[test]
    fn order_and_numbers_survive() {
        let text = r#"{"z": 1, "a": 1.0, "m": [true, null, -0.0, 18446744073709551616, 1e-05], "": {}}"#;
        assert_eq!(round_trip(text), text);
        assert_eq!(round_trip("1E400"), "Infinity");
        assert_eq!(round_trip("-0"), "0");
    }

    #[test]
    fn of_equal_keys_the_last_wins_at_the_first_place() {
        assert_eq!(round_trip(r#"{"a": 1, "b": 2, "a": 3}"#), r#"{"a": 3, "b": 2}"#);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for text in ["", "{", "[1,]", "nul", "{\"a\":}", "01", "+1", "NaN", "\"\\ud800\"", "1 2", "\"\n\""] {
            assert!(parse_json(text).is_err(), "{text:?}");
        }
        assert!(parse_json(&"9".repeat(60)).unwrap_err().contains("128 bits"));
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(parse_json(&deep).unwrap_err().contains("nested"));
        let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        assert!(parse_json(&deep).unwrap_err().contains("nested"));
    }
}
