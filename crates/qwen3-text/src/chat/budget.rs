//! What a rendering has left. Each has a thread of its own, and its budget is that thread's.

use std::cell::Cell;
use std::time::Instant;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::limits::{
    TEMPLATE_CONTAINER, TEMPLATE_DEPTH, TEMPLATE_ITEMS, TEMPLATE_NODES, TEMPLATE_STRING, TEMPLATE_TEXT,
    TEMPLATE_TIME, TEMPLATE_WORK,
};

/// What a value that is walked through counts for.
const NODE: usize = 64;

/// What an item of a list counts for.
const ITEM: usize = 32;

thread_local! {
    static TEXT_LEFT: Cell<usize> = const { Cell::new(TEMPLATE_TEXT) };
    static WORK_LEFT: Cell<usize> = const { Cell::new(TEMPLATE_WORK) };
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins the time of this thread's rendering.
pub(crate) fn begin() {
    TEXT_LEFT.set(TEMPLATE_TEXT);
    WORK_LEFT.set(TEMPLATE_WORK);
    BEGUN.set(Some(Instant::now()));
}

/// Is there time left?
pub(crate) fn tick() -> Result<(), Error> {
    match BEGUN.get() {
        Some(begun) if begun.elapsed() > TEMPLATE_TIME => {
            Err(refused(format!("it computes for more than {} s", TEMPLATE_TIME.as_secs())))
        }
        _ => Ok(()),
    }
}

/// Pays for so many bytes.
pub(crate) fn charge(bytes: usize) -> Result<(), Error> {
    tick()?;
    match TEXT_LEFT.get().checked_sub(bytes) {
        Some(left) => {
            TEXT_LEFT.set(left);
            Ok(())
        }
        None => Err(refused(format!("it makes more than {} MiB of text and lists", TEMPLATE_TEXT >> 20))),
    }
}

/// A text's length, if it is allowed.
pub(crate) fn text(bytes: usize) -> Result<usize, Error> {
    if bytes > TEMPLATE_STRING {
        return Err(refused(format!("it makes a text of more than {} MiB", TEMPLATE_STRING >> 20)));
    }
    Ok(bytes)
}

/// A list's length, if it is allowed.
pub(crate) fn items(count: usize) -> Result<usize, Error> {
    if count > TEMPLATE_ITEMS {
        return Err(refused(format!("it makes a list of more than {TEMPLATE_ITEMS} items")));
    }
    Ok(count)
}

/// A value that an operation has made, paid for. What would be computed only when it is looked at becomes a list, so
/// that nothing computes without being counted.
pub(crate) fn made(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => charge(text(value.as_str().map_or(0, str::len))?)?,
        ValueKind::Bytes => charge(text(value.len().unwrap_or_default())?)?,
        ValueKind::Seq | ValueKind::Map => {
            let count = items(value.len().unwrap_or_default())?;
            charge(TEMPLATE_CONTAINER + ITEM * count)?;
        }
        ValueKind::Iterable => {
            items(value.len().unwrap_or_default())?;
            let listed: Vec<Value> = value.try_iter()?.take(TEMPLATE_ITEMS + 1).collect();
            charge(TEMPLATE_CONTAINER + ITEM * items(listed.len())?)?;
            return Ok(Value::from(listed));
        }
        _ => tick()?,
    }
    Ok(value)
}

/// Refuses values that take too long to be walked through, and gives the bytes of the texts in them.
pub(crate) fn weigh(value: &Value) -> Result<usize, Error> {
    tick()?;
    let mut scale = Scale { nodes: 0, bytes: 0 };
    scale.add(value, 0)?;
    work(scale.bytes + NODE * scale.nodes)?;
    Ok(scale.bytes)
}

/// Pays for reading so many bytes.
fn work(bytes: usize) -> Result<(), Error> {
    let left = WORK_LEFT.get().checked_sub(bytes);
    let left =
        left.ok_or_else(|| refused(format!("it reads more than {} MiB of values", TEMPLATE_WORK >> 20)))?;
    WORK_LEFT.set(left);
    Ok(())
}

struct Scale {
    nodes: usize,
    bytes: usize,
}

impl Scale {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        depth_within(depth)?;
        self.nodes += 1;
        if self.nodes > TEMPLATE_NODES {
            return Err(refused(format!("it works on a value of more than {TEMPLATE_NODES} parts")));
        }
        match value.kind() {
            ValueKind::String => {
                self.bytes = self.bytes.saturating_add(value.as_str().map_or(0, str::len));
                // Of a text in many places, each counts.
                if self.bytes > 2 * TEMPLATE_STRING {
                    let most = (2 * TEMPLATE_STRING) >> 20;
                    return Err(refused(format!("it works on a value of more than {most} MiB of text")));
                }
            }
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.add(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.add(&key, depth + 1)?;
                    self.add(&value.get_item(&key)?, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Refuses a depth that recursion should not follow.
pub(crate) fn depth_within(depth: usize) -> Result<(), Error> {
    if depth > TEMPLATE_DEPTH {
        return Err(refused(format!("a value is nested deeper than {TEMPLATE_DEPTH}")));
    }
    Ok(())
}

pub(crate) fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
