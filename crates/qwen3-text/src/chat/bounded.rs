//! The engine's filters and tests, none of which makes or walks through more than a rendering may.

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters, functions, tests};

use super::budget::{charge, items, made, refused, text, tick, weigh};
use super::guard::{MADE, RETURNED, SEARCHED, TICK, TIMES, WEIGHED};
use crate::limits::{TEMPLATE_CONTAINER, TEMPLATE_ITEMS};

/// Spaces of an indent, and texts or lists that `sum` takes.
const INDENT_WIDTH: usize = 1024;
const SUMMED: usize = 1024;

/// Filters that do not look into the items of what they are given.
const SHALLOW: [&str; 22] = [
    "attr",
    "batch",
    "bool",
    "chain",
    "count",
    "d",
    "default",
    "first",
    "items",
    "last",
    "length",
    "list",
    "map",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "slice",
    "zip",
    "split",
    "lines",
];

/// Filters that give back what they were given, or a part of it.
const SELECTING: [&str; 7] = ["attr", "d", "default", "first", "last", "max", "min"];

/// Puts bounds around everything in `env` that is called.
pub(crate) fn install(env: &mut Environment<'static>) {
    macro_rules! filters {
        ($($name:literal => $filter:path),* $(,)?) => {
            $(add_filter(env, $name, Value::from_function($filter));)*
        };
    }
    macro_rules! tests {
        ($($name:literal => $test:path),* $(,)?) => {
            $(add_test(env, $name, Value::from_function($test));)*
        };
    }
    filters! {
        "abs" => filters::abs, "attr" => filters::attr, "batch" => filters::batch, "bool" => filters::bool,
        "capitalize" => filters::capitalize, "chain" => filters::chain, "count" => filters::length,
        "d" => filters::default, "default" => filters::default, "dictsort" => filters::dictsort,
        "e" => filters::escape, "escape" => filters::escape, "first" => filters::first, "float" => filters::float,
        "format" => filters::format, "groupby" => filters::groupby, "indent" => filters::indent,
        "int" => filters::int, "items" => filters::items, "join" => filters::join, "last" => filters::last,
        "length" => filters::length, "lines" => filters::lines, "list" => filters::list, "lower" => filters::lower,
        "map" => filters::map, "max" => filters::max, "min" => filters::min, "pprint" => filters::pprint,
        "reject" => filters::reject, "rejectattr" => filters::rejectattr, "replace" => filters::replace,
        "reverse" => filters::reverse, "round" => filters::round, "safe" => filters::safe,
        "select" => filters::select, "selectattr" => filters::selectattr, "slice" => filters::slice,
        "sort" => filters::sort, "split" => filters::split, "sum" => filters::sum, "title" => filters::title,
        "unique" => filters::unique, "upper" => filters::upper, "zip" => filters::zip,
    }
    tests! {
        "eq" => tests::is_eq, "equalto" => tests::is_eq, "==" => tests::is_eq,
        "ne" => tests::is_ne, "!=" => tests::is_ne,
        "lt" => tests::is_lt, "lessthan" => tests::is_lt, "<" => tests::is_lt,
        "le" => tests::is_le, "<=" => tests::is_le,
        "gt" => tests::is_gt, "greaterthan" => tests::is_gt, ">" => tests::is_gt,
        "ge" => tests::is_ge, ">=" => tests::is_ge, "in" => tests::is_in,
    }
    let dict = Value::from_function(functions::dict);
    env.add_function("dict", move |state: &mut State, args: Rest<ValueOrKwargs>| {
        made(dict.call(state, &args.into_values())?)
    });
    let namespace = Value::from_function(functions::namespace);
    env.add_function(
        "namespace",
        move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            charge(TEMPLATE_CONTAINER)?;
            namespace.call(state, &args.into_values())
        },
    );
    env.add_filter(MADE, made);
    env.add_filter(RETURNED, returned);
    env.add_filter(WEIGHED, weighed);
    env.add_filter(SEARCHED, searched);
    env.add_filter(TIMES, times);
    env.add_filter(TICK, |value: Value| tick().map(|()| value));
    // It prints all that the engine holds; Jinja2 has it as an extension only.
    env.remove_global("debug");
}

fn add_filter(env: &mut Environment<'static>, name: &'static str, filter: Value) {
    let (shallow, selecting) = (SHALLOW.contains(&name), SELECTING.contains(&name));
    env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let args = args.into_values();
        tick()?;
        let mut bytes = 0;
        for arg in args.iter().skip(usize::from(shallow)) {
            bytes += weigh(arg)?;
        }
        check_size(name, &args, bytes)?;
        let result = filter.call(state, &args)?;
        if selecting { Ok(result) } else { made(result) }
    });
}

fn add_test(env: &mut Environment<'static>, name: &'static str, test: Value) {
    env.add_test(name, move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<bool, Error> {
        let args = args.into_values();
        for arg in &args {
            weigh(arg)?;
        }
        Ok(test.call(state, &args)?.is_true())
    });
}

/// Refuses what a filter or method of this name would make too much of. `bytes` of text are in the arguments.
pub(crate) fn check_size(name: &str, args: &[Value], bytes: usize) -> Result<(), Error> {
    let argument = |at: usize, keyword: &str| {
        let given = args.get(at).filter(|value| !value.is_kwargs()).cloned();
        let named = || args.last().filter(|last| last.is_kwargs())?.get_attr(keyword).ok();
        given.or_else(named).filter(|value| !value.is_undefined() && !value.is_none())
    };
    let subject = args.first().and_then(Value::as_str).unwrap_or_default();
    match name {
        "indent" => {
            let width = argument(1, "width").map_or(4, |width| width.as_usize().unwrap_or(usize::MAX));
            if width > INDENT_WIDTH {
                return Err(refused(format!("it indents by more than {INDENT_WIDTH}")));
            }
            text(bytes.saturating_add(width * (1 + subject.matches('\n').count())))?;
        }
        "slice" | "batch" => {
            items(argument(1, "").map_or(0, |count| count.as_usize().unwrap_or(usize::MAX)))?;
        }
        // A text's characters.
        "list" | "sort" | "unique" | "map" | "select" | "reject" | "groupby" | "min" | "max" | "chain" => {
            items(subject.len())?;
        }
        "split" | "rsplit" => {
            let parts = args.get(1).and_then(Value::as_str).map_or(0, |sep| subject.matches(sep).count());
            items(parts)?;
        }
        "zip" => {
            let shortest = args.iter().filter_map(Value::len).min().unwrap_or(TEMPLATE_ITEMS);
            items(shortest.saturating_mul(args.len()))?;
        }
        "replace" => {
            let part = |at| args.get(at).and_then(Value::as_str);
            if let (Some(from), Some(to)) = (part(1), part(2)) {
                let count = subject.matches(from).count();
                text(subject.len().saturating_add(count.saturating_mul(to.len())))?;
            }
        }
        "join" => {
            let joiner = argument(1, "d").and_then(|joiner| joiner.as_str().map(str::len)).unwrap_or(0);
            let count = args.first().and_then(Value::len).unwrap_or(TEMPLATE_ITEMS);
            text(bytes.saturating_add(joiner.saturating_mul(count)))?;
        }
        "sum" => {
            let mut items = args.first().map(Value::try_iter).transpose()?.into_iter().flatten();
            let numbers = items.next().is_none_or(|first| first.is_number());
            if !numbers && items.nth(SUMMED).is_some() {
                return Err(refused(format!("it sums more than {SUMMED} values that are no numbers")));
            }
        }
        "format" => {
            let mut size = subject.len();
            for field in subject.split(['%', '{']).skip(1) {
                let field = field.split(char::is_whitespace).next().unwrap_or_default();
                let widths = field.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
                let width: usize = widths.map(|run| run.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
                // A width from an argument.
                let width = if field.contains('*') { usize::MAX } else { width };
                size = size.saturating_add(bytes).saturating_add(width);
                text(size)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What a macro printed was paid for then.
fn returned(value: Value) -> Result<Value, Error> {
    text(value.as_str().map_or(0, str::len))?;
    Ok(value)
}

fn weighed(value: Value) -> Result<Value, Error> {
    weigh(&value)?;
    Ok(value)
}

fn searched(value: Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map {
        tick()?
    } else {
        weigh(&value).map(drop)?
    }
    Ok(value)
}

/// `left * right`.
fn times(left: Value, right: Value) -> Result<Value, Error> {
    let count = |value: &Value| value.as_usize().unwrap_or(1);
    let (one, many) = if left.is_number() { (&right, count(&left)) } else { (&left, count(&right)) };
    if let Some(repeated) = one.as_str() {
        text(repeated.len().saturating_mul(many))?;
    } else if matches!(one.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let length = one.len().unwrap_or_default().saturating_mul(many);
        charge(items(length)?)?;
        if one.is_tuple() && right.is_integer() | left.is_integer() {
            let items: Vec<Value> = one.try_iter()?.collect();
            let all: Vec<Value> = items.iter().cycle().take(length).cloned().collect();
            return made(Value::from(Tuple::from(all)));
        }
    }
    // As the engine has it, in a tiny template of its own.
    let engine = Environment::empty();
    let product = engine.compile_expression("left * right")?;
    let factors = Value::from_pairs([("left", left), ("right", right)]);
    made(product.eval(factors)?)
}
