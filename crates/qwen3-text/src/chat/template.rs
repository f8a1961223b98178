use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use minijinja::Value;
use minijinja::value::ValueKind;

use super::engine::{compile, render};
use super::source::prepare;
use super::{Conversation, Message};
use crate::TextError;
use crate::files::{bad_key, read_object, read_text, read_text_if_there};
use crate::special::{SpecialTokens, special_tokens};

/// What a template is told besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderOptions {
    /// The tools' JSON schemas; `None` and an empty list are not the same to every template.
    pub tools: Option<Vec<Value>>,
    /// Qwen3's switch: with `Some(false)` the prompt ends in an empty block of reasoning. `None` leaves
    /// it to the template.
    pub enable_thinking: Option<bool>,
    /// End the prompt where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Any other variables, which replace special tokens of the same name.
    pub variables: BTreeMap<String, Value>,
}

/// A checkpoint's chat template.
///
/// Renders what `apply_chat_template(..., tokenize=False)` of Transformers 5.23 does: Jinja2 with
/// `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}` blocks, `tojson`,
/// `raise_exception` and `strftime_now`, and Python's string methods. A template is a program from
/// whoever made the checkpoint: it can compute within the [limits](crate::limits), and it can reach nothing
/// outside. It is compiled when it is opened, for its errors, and again for each prompt, which takes less than
/// rendering does.
///
/// ```
/// # fn main() -> Result<(), qwen3_text::TextError> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/trained-tiny");
/// use qwen3_text::{ChatTemplate, Message, RenderOptions};
/// let template = ChatTemplate::open(folder)?;
/// let messages = [Message::system("Be brief."), Message::user("Hello")];
/// let options = RenderOptions { add_generation_prompt: true, ..Default::default() };
/// let prompt = template.render(&messages, &options)?;
/// assert!(prompt.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"));
/// assert!(prompt.ends_with("<|im_start|>assistant\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// By name: the file that holds each, and its text.
    sources: BTreeMap<String, (PathBuf, String)>,
    /// The directory, or what the template is called, for errors.
    origin: PathBuf,
    special_tokens: SpecialTokens,
}

impl ChatTemplate {
    /// Reads the templates of a checkpoint: `chat_template.jinja` and the files of
    /// `additional_chat_templates/`, or else `chat_template` of `tokenizer_config.json`, which is one
    /// template or a list of named ones. The special tokens that the config names are given to them.
    ///
    /// # Errors
    /// When there is no template, when a file is unreadable or malformed, or when a template is not
    /// Jinja; then with its line.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TextError> {
        let dir = dir.as_ref();
        let (special_tokens, sources) = sources(dir)?;
        if sources.is_empty() {
            return Err(TextError::NoChatTemplate { dir: dir.into() });
        }
        let mut template = Self::empty(dir);
        template.special_tokens = special_tokens;
        for (name, file, text) in sources {
            template.add(name, file, &text)?;
        }
        Ok(template)
    }

    /// Compiles one template, which knows no special tokens.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`].
    pub fn parse(source: &str) -> Result<Self, TextError> {
        let mut template = Self::empty(Path::new("chat template"));
        template.add("default".into(), template.origin.clone(), source)?;
        Ok(template)
    }

    /// The file that holds the template for a conversation with or without tools, before it is compiled.
    ///
    /// # Errors
    /// Those of reading files, and [`TextError::NoChatTemplate`].
    pub fn file(dir: impl AsRef<Path>, tools: bool) -> Result<PathBuf, TextError> {
        let sources = sources(dir.as_ref())?.1;
        let named = |wanted: &str| sources.iter().find(|(name, ..)| name == wanted);
        let found = named("tool_use").filter(|_| tools).or_else(|| named("default")).or(sources.first());
        found.map(|(_, file, _)| file.clone()).ok_or(TextError::NoChatTemplate { dir: dir.as_ref().into() })
    }

    /// The prompt of a conversation. When there are several templates, `tool_use` is taken when
    /// `options` has tools, and `default` otherwise.
    ///
    /// # Errors
    /// [`TextError::TemplateRaised`] when the template refuses the messages,
    /// [`TextError::TemplateRender`] when it fails on them or computes for too long,
    /// [`TextError::Option`] when there are no messages or a tool is not an object, and
    /// [`TextError::NoChatTemplate`] when there are templates but no `default`.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TextError> {
        let refused = |option, value: String, reason| TextError::Option { option, value, reason };
        if messages.is_empty() {
            return Err(refused("messages", "empty".into(), "a conversation has a message"));
        }
        for tool in options.tools.iter().flatten() {
            if tool.kind() != ValueKind::Map {
                return Err(refused("tools", tool.to_string(), "a tool is a JSON object"));
            }
        }
        let name = match options.tools {
            Some(_) if self.sources.contains_key("tool_use") => "tool_use",
            _ => "default",
        };
        let Some((file, source)) = self.sources.get(name) else {
            return Err(TextError::NoChatTemplate { dir: self.origin.clone() });
        };
        render(file, source, self.context(messages, options), messages.len())
    }

    /// The prompt of a conversation with its tools; those of `options` are used when it has none.
    ///
    /// # Errors
    /// Those of [`Self::render`].
    pub fn render_conversation(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let mut options = options.clone();
        options.tools = conversation.tools.clone().or(options.tools);
        self.render(&conversation.messages, &options)
    }

    fn context(&self, messages: &[Message], options: &RenderOptions) -> Value {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special_tokens {
            context.insert(name, Value::from(token.as_str()));
        }
        for (name, value) in &options.variables {
            context.insert(name, value.clone());
        }
        if let Some(enabled) = options.enable_thinking {
            context.insert("enable_thinking", Value::from(enabled));
        }
        let messages: Vec<Value> = messages.iter().map(Message::template_value).collect();
        context.insert("messages", Value::from(messages));
        context.insert("tools", options.tools.clone().map_or(Value::from(()), Value::from));
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(options.add_generation_prompt));
        Value::from_pairs(context)
    }

    fn empty(origin: &Path) -> Self {
        Self { sources: BTreeMap::new(), origin: origin.into(), special_tokens: Vec::new() }
    }

    fn add(&mut self, name: String, file: PathBuf, source: &str) -> Result<(), TextError> {
        let source = prepare(source);
        compile(&file, &source)?;
        self.sources.insert(name, (file, source));
        Ok(())
    }
}

type Sources = Vec<(String, PathBuf, String)>;

/// The special tokens of a checkpoint, and name, file and text of its templates.
fn sources(dir: &Path) -> Result<(SpecialTokens, Sources), TextError> {
    let config_file = dir.join("tokenizer_config.json");
    let config = read_object(&config_file)?.unwrap_or_default();
    let mut sources = template_files(dir)?;
    if sources.is_empty() {
        let listed = config_templates(&config_file, config.get("chat_template"))?;
        sources.extend(listed.into_iter().map(|(name, text)| (name, config_file.clone(), text)));
    }
    Ok((special_tokens(&config_file, &config)?, sources))
}

/// Name, file and text of the templates in files of their own.
fn template_files(dir: &Path) -> Result<Sources, TextError> {
    let mut found = Vec::new();
    let single = dir.join("chat_template.jinja");
    if let Some(text) = read_text_if_there(&single)? {
        found.push(("default".into(), single, text));
    }
    let more = dir.join("additional_chat_templates");
    if !more.is_dir() {
        return Ok(found);
    }
    let io = |source| TextError::Io { file: more.clone(), source };
    for entry in fs::read_dir(&more).map_err(io)? {
        let file = entry.map_err(io)?.path();
        let Some(name) = file.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        if file.extension().is_some_and(|extension| extension == "jinja") {
            found.push((name.into(), file.clone(), read_text(&file)?));
        }
    }
    Ok(found)
}

/// Name and text of the templates in `tokenizer_config.json`.
fn config_templates(
    file: &Path,
    value: Option<&serde_json::Value>,
) -> Result<Vec<(String, String)>, TextError> {
    let items = match value {
        None | Some(serde_json::Value::Null) => return Ok(Vec::new()),
        Some(serde_json::Value::String(text)) => return Ok(vec![("default".into(), text.clone())]),
        Some(serde_json::Value::Array(items)) => items,
        Some(_) => {
            return Err(bad_key(file, "chat_template", "is neither a string nor a list"));
        }
    };
    let items = items.iter().enumerate().map(|(at, item)| {
        let text = |name: &str| {
            let text = item.get(name).and_then(serde_json::Value::as_str);
            let missing = || bad_key(file, format!("chat_template[{at}].{name}"), "is not a string");
            text.map(String::from).ok_or_else(missing)
        };
        Ok((text("name")?, text("template")?))
    });
    items.collect()
}
