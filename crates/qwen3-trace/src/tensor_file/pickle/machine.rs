//! The stack machine that a pickle is a program for.

use std::collections::HashMap;

use super::meanings::{Name, Rebuilt, refused};
use super::{MAX_VALUES, Storage};

/// A value by its place among all.
pub(super) type Id = usize;

pub(super) enum Value<'a> {
    /// No tensor is in it: None, a boolean, a float, bytes, a set, a device.
    Plain,
    /// What fits; a larger integer is plain.
    Int(i64),
    Text(&'a str),
    Name(Name),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Storage),
    Tensor(Rebuilt),
}

/// The stack machine.
#[derive(Default)]
pub(super) struct Machine<'a> {
    /// What has not been read.
    pub(super) rest: &'a [u8],
    pub(super) values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// The heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// One that reads `pickle`.
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { rest: pickle, ..Self::default() }
    }

    /// Runs to the end; what is left on the stack.
    pub(super) fn run(&mut self) -> Result<Id, String> {
        loop {
            match self.byte()? {
                // PROTO, FRAME.
                0x80 => {
                    let protocol = self.byte()?;
                    if !(2..=5).contains(&protocol) {
                        return Err(format!("protocol {protocol}, 2 to 5 are read"));
                    }
                }
                0x95 => drop(self.bytes(8)?),
                b'.' => return self.pop(),

                b'N' | 0x88 | 0x89 | 0x8f => self.push(Value::Plain)?,
                b'K' => {
                    let number = self.byte()?;
                    self.push(Value::Int(number.into()))?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(number.into()))?;
                }
                // LONG1, LONG4.
                0x8a => {
                    let length = self.byte()?;
                    self.long(length.into())?;
                }
                0x8b => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.long(length.into())?;
                }
                b'G' => {
                    self.bytes(8)?;
                    self.push(Value::Plain)?;
                }
                // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8.
                0x8c => {
                    let length = self.byte()?;
                    self.text(length.into())?;
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length.into())?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.text(length)?;
                }
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8.
                b'C' => {
                    let length = self.byte()?;
                    self.plain_bytes(length.into())?;
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.plain_bytes(length.into())?;
                }
                0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.array()?);
                    self.plain_bytes(length)?;
                }

                b'(' => {
                    self.marks.push(self.stack.len());
                    self.check(self.marks.len())?;
                }
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                // TUPLE, TUPLE1 to TUPLE3, FROZENSET, ADDITEMS.
                b't' => {
                    let items = self.marked()?;
                    self.push(Value::Tuple(items))?;
                }
                opcode @ 0x85..=0x87 => {
                    let items = self.last(usize::from(opcode - 0x84))?;
                    self.push(Value::Tuple(items))?;
                }
                0x91 => {
                    self.marked()?;
                    self.push(Value::Plain)?;
                }
                0x90 => drop(self.marked()?),
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.marked()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.last(2)?;
                    self.set(&items)?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.set(&items)?;
                }

                b'q' => {
                    let key = self.byte()?;
                    self.store(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.store(key)?;
                }
                0x94 => self.store(self.memo.len() as u32)?,
                b'h' => {
                    let key = self.byte()?;
                    self.load(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.load(key)?;
                }

                // GLOBAL, STACK_GLOBAL, and INST, which calls what it names at once.
                b'c' => {
                    let (module, member) = (self.line()?, self.line()?);
                    self.name(module, member)?;
                }
                0x93 => {
                    let names = self.last(2)?;
                    let [Value::Text(module), Value::Text(member)] =
                        [&self.values[names[0]], &self.values[names[1]]]
                    else {
                        return Err("asks for something whose name is no text: refused".into());
                    };
                    self.name(module, member)?;
                }
                b'i' => {
                    let (module, member) = (self.line()?, self.line()?);
                    return Err(refused(module, member));
                }
                b'R' => {
                    let [function, arguments] = self.last(2)?[..] else { unreachable!("two were asked for") };
                    let made = self.call(function, arguments)?;
                    self.stack.push(made);
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Value::Storage(storage))?;
                }
                // BUILD: `_metadata`, an attribute of a state dict.
                b'b' => {
                    self.pop()?;
                    let top = self.stack.last().map(|id| &self.values[*id]);
                    if !matches!(top, Some(Value::Dict(_))) {
                        return Err("sets the state of something that is no dictionary: refused".into());
                    }
                }
                opcode => {
                    let shown = std::ascii::escape_default(opcode);
                    return Err(format!(
                        "opcode `{shown}`, which tensors are written without: refused, nothing was executed"
                    ));
                }
            }
        }
    }

    /// Fails for more values than a pickle of tensors has.
    pub(super) fn check(&self, count: usize) -> Result<(), String> {
        if count > MAX_VALUES { Err(format!("more than {MAX_VALUES} values")) } else { Ok(()) }
    }

    fn bytes(&mut self, count: u64) -> Result<&'a [u8], String> {
        let count = usize::try_from(count).ok();
        let (bytes, rest) =
            count.and_then(|count| self.rest.split_at_checked(count)).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.bytes(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.bytes(N as u64)?.try_into().expect("as many bytes as were asked for"))
    }

    /// A text up to the end of its line.
    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or("it ends too early")?;
        let line = self.bytes(end as u64)?;
        self.bytes(1)?;
        str::from_utf8(line).map_err(|error| format!("a name is not UTF-8: {error}"))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        self.values.push(value);
        self.check(self.values.len())?;
        self.push_id(self.values.len() - 1)
    }

    fn push_id(&mut self, id: Id) -> Result<(), String> {
        self.stack.push(id);
        self.check(self.stack.len())
    }

    /// An integer of any length.
    fn long(&mut self, length: u64) -> Result<(), String> {
        let bytes = self.bytes(length)?;
        let value = match bytes.len() {
            0 => Value::Int(0),
            length @ 1..=8 => {
                let sign = if bytes[length - 1] >= 0x80 { 0xff } else { 0 };
                let mut wide = [sign; 8];
                wide[..length].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Plain,
        };
        self.push(value)
    }

    fn text(&mut self, length: u64) -> Result<(), String> {
        // Half of a surrogate pair, which Python writes as it is, is in no name of a tensor.
        let text =
            str::from_utf8(self.bytes(length)?).map_err(|error| format!("a text is not UTF-8: {error}"))?;
        self.push(Value::Text(text))
    }

    fn plain_bytes(&mut self, length: u64) -> Result<(), String> {
        self.bytes(length)?;
        self.push(Value::Plain)
    }

    fn pop(&mut self) -> Result<Id, String> {
        Ok(self.last(1)?[0])
    }

    /// Takes the last `count` values above the last mark.
    fn last(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= bottom);
        Ok(self.stack.split_off(start.ok_or("the stack is empty")?))
    }

    /// Takes all values above the last mark, and the mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    /// The value on top, which is left there.
    fn top(&mut self) -> Result<Id, String> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            _ => return Err("appends to something that is no list: refused".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[top] {
            Value::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err("sets an item of something that is no dictionary: refused".into()),
        }
        Ok(())
    }

    fn store(&mut self, key: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        self.check(self.memo.len())
    }

    fn load(&mut self, key: u32) -> Result<(), String> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("value {key} was never stored"))?;
        self.push_id(id)
    }

    fn name(&mut self, module: &str, member: &str) -> Result<(), String> {
        let name = Name::known(module, member).ok_or_else(|| refused(module, member))?;
        self.push(Value::Name(name))
    }

    pub(super) fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err("something that is no tuple where arguments belong".into()),
        }
    }
}
