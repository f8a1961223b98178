use std::error::Error as _;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error};

use super::filters::{self, Raised};
use super::{bounded, methods};
use crate::TextError;

/// Characters of a reason at most.
const REASON: usize = 1000;

/// Jinja2 as Transformers sets it up (5.23, `_cached_compile_jinja_template`).
pub(crate) fn environment(fuel: u64) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(fuel));
    env.set_debug(true);
    bounded::install(&mut env);
    env.set_unknown_method_callback(methods::call);
    env.set_formatter(filters::print);
    env.add_filter("tojson", filters::tojson);
    env.add_filter("trim", filters::trim);
    env.add_filter("string", filters::string);
    env.add_function("raise_exception", filters::raise_exception);
    env.add_function("strftime_now", filters::strftime_now);
    env
}

/// Jinja2's syntax as Transformers sets it up.
pub(crate) fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().expect("the usual delimiters")
}

/// Why a template was not accepted.
pub(crate) fn syntax_error(file: &Path, error: &Error) -> TextError {
    TextError::TemplateSyntax { file: file.into(), line: error.line().unwrap_or(0), reason: reason(error) }
}

/// Why rendering failed: in the template's own words when it raised an exception.
pub(crate) fn render_error(file: &Path, error: &Error) -> TextError {
    let (file, line) = (file.into(), error.line().unwrap_or(0));
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            let message = message.clone();
            return TextError::TemplateRaised { file, line, message };
        }
        source = cause.source();
    }
    TextError::TemplateRender { file, line, reason: reason(error) }
}

fn reason(error: &Error) -> String {
    match error.detail() {
        // It may name what the template looked for.
        Some(detail) => format!("{}: {detail:.REASON$}", error.kind()),
        None => error.kind().to_string(),
    }
}
