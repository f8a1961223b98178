//! Compiling and rendering, on a thread with a stack for all that the limits allow.

use std::io;
use std::path::Path;
use std::thread;

use minijinja::machinery::{
    CodeGenerator, Instructions, Token, ast::Stmt, eval, make_string_output, parse, tokenize,
};
use minijinja::{AutoEscape, Error, Value};

use super::budget;
use super::environment::{environment, render_error, syntax, syntax_error};
use super::guard::guarded;
use crate::TextError;
use crate::limits::{
    TEMPLATE_ELIFS, TEMPLATE_PROMPT, TEMPLATE_SOURCE, TEMPLATE_STACK, TEMPLATE_STEPS,
    TEMPLATE_STEPS_PER_MESSAGE, TEMPLATE_TAG_TOKENS,
};

/// What the engine calls the only template there is.
const NAME: &str = "chat template";

/// Is this a template?
///
/// # Errors
/// [`TextError::TemplateSyntax`].
pub(crate) fn compile(file: &Path, source: &str) -> Result<(), TextError> {
    let refused = |line: usize, reason: &str| TextError::TemplateSyntax {
        file: file.into(),
        line,
        reason: reason.into(),
    };
    let compiled = on_own_stack(|| match check_size(source) {
        Err((line, reason)) => Err(refused(line, &reason)),
        Ok(()) => {
            parsed(source).map(|tree| drop(generate(source, &tree))).map_err(|e| syntax_error(file, &e))
        }
    });
    compiled.unwrap_or_else(|reason| Err(refused(0, &reason)))
}

/// The prompt that a template, one that [`compile`] takes, makes of `context`.
///
/// # Errors
/// [`TextError::TemplateRaised`] and [`TextError::TemplateRender`].
pub(crate) fn render(
    file: &Path,
    source: &str,
    context: Value,
    messages: usize,
) -> Result<String, TextError> {
    let fuel = TEMPLATE_STEPS + TEMPLATE_STEPS_PER_MESSAGE.saturating_mul(messages as u64);
    // What the template made is dropped there as well: values may be nested deeply.
    let rendered =
        on_own_stack(move || prompt(source, context, fuel).map_err(|error| render_error(file, &error)));
    rendered.unwrap_or_else(|reason| Err(TextError::TemplateRender { file: file.into(), line: 0, reason }))
}

fn prompt(source: &str, context: Value, fuel: u64) -> Result<String, Error> {
    budget::begin();
    let environment = environment(fuel);
    let tree = parsed(source)?;
    let (instructions, blocks) = generate(source, &tree);
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    eval(&environment, &instructions, context, &blocks, &mut output, AutoEscape::None)?;
    drop(output);
    if text.len() > TEMPLATE_PROMPT {
        return Err(budget::refused(format!("the prompt has more than {} MiB", TEMPLATE_PROMPT >> 20)));
    }
    Ok(text)
}

/// The guarded syntax tree.
fn parsed(source: &str) -> Result<Stmt<'_>, Error> {
    parse(source, NAME, syntax()).map(|tree| guarded(&tree))
}

type Compiled<'a> = (Instructions<'a>, std::collections::BTreeMap<&'a str, Instructions<'a>>);

fn generate<'a>(source: &'a str, tree: &Stmt<'a>) -> Compiled<'a> {
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(tree);
    generator.finish()
}

/// Refuses what the parser would follow too deep, with the line. Whatever is no token it refuses itself.
fn check_size(source: &str) -> Result<(), (usize, String)> {
    if source.len() > TEMPLATE_SOURCE {
        return Err((1, format!("{} bytes, at most {TEMPLATE_SOURCE} are read", source.len())));
    }
    let (mut in_tag, mut elifs, mut after_start) = (0, 0, false);
    for (token, span) in tokenize(source, false, syntax()).map_while(Result::ok) {
        in_tag += 1;
        match token {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => in_tag = 0,
            Token::Ident("elif") if after_start => elifs += 1,
            _ => {}
        }
        after_start = matches!(token, Token::BlockStart);
        let line = usize::from(span.start_line);
        if in_tag > TEMPLATE_TAG_TOKENS {
            return Err((line, format!("a tag of more than {TEMPLATE_TAG_TOKENS} tokens")));
        }
        if elifs > TEMPLATE_ELIFS {
            return Err((line, format!("more than {TEMPLATE_ELIFS} `elif`")));
        }
    }
    Ok(())
}

/// Runs `work` on a thread of its own. The engine's own mistakes are not the caller's (3.0.5 panics on `''[::-1]`):
/// a panic is an error.
fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("chat template".into()).stack_size(TEMPLATE_STACK);
        let thread = builder.spawn_scoped(scope, work);
        let thread = thread.map_err(|error: io::Error| format!("no thread to render on: {error}"))?;
        thread.join().map_err(|_| "the template engine panicked".into())
    })
}
