use std::path::Path;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::json::parse_json;
use crate::TextError;
use crate::files::{bad_key, malformed, read_text};

/// The names that reasoning comes under, best first (Transformers 5.23, `_REASONING_FIELDS`).
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation: a JSON object with a `role`, in the order of its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    role: String,
    fields: Vec<(String, Value)>,
}

impl Message {
    /// What the model is told about its task.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a tool call gave back.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content)
    }

    /// A message of any role that the template knows.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let role = role.into();
        let fields =
            vec![("role".into(), Value::from(role.clone())), ("content".into(), Value::from(content.into()))];
        Self { role, fields }
    }

    /// The same message with one more field, such as `reasoning_content` or `tool_calls`
    /// ([`parse_json`] makes such values); a field of that name is replaced.
    ///
    /// # Panics
    /// When `key` is `role`, which is set once.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        assert_ne!(key, "role", "a message's role is set when it is made");
        let value = value.into();
        match self.fields.iter_mut().find(|(known, _)| known == key) {
            Some((_, field)) => *field = value,
            None => self.fields.push((key.into(), value)),
        }
        self
    }

    /// Who speaks.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The `content`, when there is one and it is a string.
    pub fn content(&self) -> Option<&str> {
        self.get("content").and_then(Value::as_str)
    }

    /// Any field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// What a template sees: fields that are null are absent, and reasoning goes by its usual name and
    /// by `thinking` (Transformers 5.23, `apply_chat_template` and `_alias_reasoning_fields`).
    pub(crate) fn template_value(&self) -> Value {
        let fields = self.fields.iter().filter(|(_, value)| !value.is_none()).cloned();
        let present: Vec<(String, Value)> = fields.collect();
        let field = |name: &str| present.iter().find(|(known, _)| known == name);
        let reasoning = REASONING.into_iter().find_map(field).map(|(_, value)| value.clone());
        let Some(reasoning) = reasoning else {
            return Value::from_pairs(present);
        };
        // Of equal keys the last value stays, at the place of the first.
        let first = [("thinking".to_string(), reasoning.clone())];
        let last = [("reasoning_content".to_string(), reasoning)];
        Value::from_pairs(first.into_iter().chain(present).chain(last))
    }

    fn from_value(value: &Value, origin: &Path, key: &str) -> Result<Self, TextError> {
        if value.kind() != ValueKind::Map {
            return Err(bad_key(origin, key, "is not an object"));
        }
        let fields = entries(value);
        let role = fields.iter().find(|(known, _)| known == "role");
        let role = role.ok_or_else(|| bad_key(origin, format!("{key}.role"), "is missing"))?;
        let role = role.1.as_str();
        let role = role.ok_or_else(|| bad_key(origin, format!("{key}.role"), "is not a string"))?;
        Ok(Self { role: role.into(), fields: fields.clone() })
    }
}

/// Messages, and the tools that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools' JSON schemas. None and no tools are not the same to every template.
    pub tools: Option<Vec<Value>>,
}

impl Conversation {
    /// Reads a message file. See [`Self::from_json`].
    ///
    /// # Errors
    /// When the file cannot be read, and those of [`Self::from_json`].
    pub fn open(file: impl AsRef<Path>) -> Result<Self, TextError> {
        let file = file.as_ref();
        Self::from_json(&read_text(file)?, file)
    }

    /// Parses a JSON list of messages, or an object with `messages` and perhaps `tools`; its other keys
    /// are ignored. `origin` is what errors call the text.
    ///
    /// # Errors
    /// When the text is not JSON, when a message is not an object with a `role`, or when a tool is not
    /// an object. The error names the key: `messages[3].role`.
    pub fn from_json(text: &str, origin: impl AsRef<Path>) -> Result<Self, TextError> {
        let origin = origin.as_ref();
        let value = parse_json(text).map_err(|reason| malformed(origin, reason))?;
        let (messages, tools) = match value.kind() {
            ValueKind::Seq => (value, None),
            ValueKind::Map => {
                let fields = entries(&value);
                let field = |name: &str| fields.iter().find(|(known, _)| known == name);
                let messages = field("messages").map(|(_, value)| value.clone());
                let messages = messages.ok_or_else(|| bad_key(origin, "messages", "is missing"))?;
                let tools = field("tools").map(|(_, value)| value.clone());
                (messages, tools.filter(|tools| !tools.is_none()))
            }
            _ => {
                return Err(malformed(origin, "neither a list of messages nor an object"));
            }
        };
        let messages = items(&messages).ok_or_else(|| bad_key(origin, "messages", "is not a list"))?;
        let messages = messages
            .iter()
            .enumerate()
            .map(|(at, message)| Message::from_value(message, origin, &format!("messages[{at}]")));
        let messages = messages.collect::<Result<_, _>>()?;
        let tools = tools.map(|tools| tool_list(&tools, origin)).transpose()?;
        Ok(Self { messages, tools })
    }

    /// Reads a file of tools: a JSON list, or an object with `tools`.
    ///
    /// # Errors
    /// When the file cannot be read or is not JSON, or when a tool is not an object.
    pub fn open_tools(file: impl AsRef<Path>) -> Result<Vec<Value>, TextError> {
        let file = file.as_ref();
        Self::tools_from_json(&read_text(file)?, file)
    }

    /// Parses a JSON list of tools, or an object with `tools`. `origin` is what errors call the text.
    ///
    /// # Errors
    /// When the text is not JSON, or when a tool is not an object.
    pub fn tools_from_json(text: &str, origin: impl AsRef<Path>) -> Result<Vec<Value>, TextError> {
        let origin = origin.as_ref();
        let value = parse_json(text).map_err(|reason| malformed(origin, reason))?;
        let inside = entries(&value).into_iter().find(|(key, _)| key == "tools");
        tool_list(&inside.map_or(value, |(_, tools)| tools), origin)
    }
}

fn tool_list(tools: &Value, origin: &Path) -> Result<Vec<Value>, TextError> {
    let tools = items(tools).ok_or_else(|| bad_key(origin, "tools", "is not a list"))?;
    match tools.iter().position(|tool| tool.kind() != ValueKind::Map) {
        Some(at) => Err(bad_key(origin, format!("tools[{at}]"), "is not an object")),
        None => Ok(tools),
    }
}

/// The entries of an object; its keys are strings, since it was JSON.
fn entries(value: &Value) -> Vec<(String, Value)> {
    let keys = value.try_iter().into_iter().flatten();
    keys.filter_map(|key| Some((key.as_str()?.to_string(), value.get_item(&key).ok()?))).collect()
}

fn items(value: &Value) -> Option<Vec<Value>> {
    (value.kind() == ValueKind::Seq).then(|| value.try_iter().into_iter().flatten().collect())
}
