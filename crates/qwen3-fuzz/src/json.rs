//! JSON that need not be right: keys may occur twice, and scalars are whatever bytes are wanted.

use serde_json::Value;

/// A JSON document before it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// Written as it is: a scalar, or anything else.
    Raw(Vec<u8>),
    /// A list.
    List(Vec<Json>),
    /// An object's entries; keys are written as they are, with their quotes.
    Object(Vec<(Vec<u8>, Json)>),
}

impl Json {
    /// Something written as it is.
    pub fn raw(text: impl Into<Vec<u8>>) -> Self {
        Self::Raw(text.into())
    }

    /// The document `bytes`; `None` when it is not JSON.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Value>(bytes).ok().as_ref().map(Self::from)
    }

    /// How many entries a list or an object has.
    pub fn len(&self) -> usize {
        match self {
            Self::Raw(_) => 0,
            Self::List(items) => items.len(),
            Self::Object(entries) => entries.len(),
        }
    }

    /// Has it no entries?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entry number `index` of a list or an object.
    pub fn child(&mut self, index: usize) -> Option<&mut Self> {
        match self {
            Self::Raw(_) => None,
            Self::List(items) => items.get_mut(index),
            Self::Object(entries) => entries.get_mut(index).map(|(_, value)| value),
        }
    }

    /// The value of `key` in an object.
    pub fn get(&mut self, key: &str) -> Option<&mut Self> {
        let quoted = quoted(key);
        match self {
            Self::Object(entries) => {
                entries.iter_mut().find(|(key, _)| *key == quoted).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Puts `value` under `key` in an object, in place of what is there.
    pub fn set(&mut self, key: &str, value: Self) {
        if let Some(place) = self.get(key) {
            *place = value;
        } else if let Self::Object(entries) = self {
            entries.push((quoted(key), value));
        }
    }

    /// The document's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend(bytes),
            Self::List(items) => {
                out.push(b'[');
                for (number, item) in items.iter().enumerate() {
                    out.extend(if number == 0 { "" } else { "," }.bytes());
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(entries) => {
                out.push(b'{');
                for (number, (key, value)) in entries.iter().enumerate() {
                    out.extend(if number == 0 { "" } else { "," }.bytes());
                    out.extend(key);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

impl From<&Value> for Json {
    /// Keys in alphabetical order, whatever order the build's maps have.
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => {
                let mut entries: Vec<_> =
                    map.iter().map(|(key, value)| (quoted(key), Self::from(value))).collect();
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                Self::Object(entries)
            }
            scalar => Self::raw(scalar.to_string()),
        }
    }
}

/// A text as JSON writes it.
pub fn quoted(text: &str) -> Vec<u8> {
    Value::from(text).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written() {
        let text = r#"{"a":[1,2.5,null,true],"b":{"c\n":"\u0001"}}"#;
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(json.bytes()).unwrap(), text);
        assert_eq!(Json::parse(b"{"), None);
    }

    #[test]
    fn keys_may_occur_twice() {
        let mut json = Json::parse(br#"{"a":1}"#).unwrap();
        json.set("a", Json::raw("NaN"));
        let Json::Object(entries) = &mut json else { panic!() };
        entries.push(entries[0].clone());
        assert_eq!(json.bytes(), br#"{"a":NaN,"a":NaN}"#);
    }
}
