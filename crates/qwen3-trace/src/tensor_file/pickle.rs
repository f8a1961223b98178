//! The part of Python's pickles that `torch.save` writes of tensors.
//!
//! A pickle is a program for a stack machine, which may call any function of Python. This machine has no functions:
//! the few names below are put on the stack as names, and what `torch` would make of them and their arguments is a
//! [`TensorView`]. Every other name ends it with an error. Values are bounded in number, names in length, nesting in
//! depth; a loop does not exist in a pickle.

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, HashMap};

use super::{check_name, shown};

/// Values in a pickle: some 20 for each tensor.
const MAX_VALUES: usize = 1 << 20;
/// Tensors in a pickle, under all their names.
const MAX_TENSORS: usize = 1 << 16;
/// Containers in containers.
const MAX_DEPTH: usize = 64;
/// Bytes of a storage's key, which is a number.
const MAX_KEY: usize = 32;
/// Axes of a tensor, as PyTorch has them at most.
const MAX_AXES: usize = 64;

/// Where a tensor lies in its storage, as the pickle claims it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorView {
    /// PyTorch's name of the dtype.
    pub(super) dtype: &'static str,
    pub(super) storage: Storage,
    /// In elements of the dtype, as strides are.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// The values of one tensor or several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// Its entry in `data/`.
    pub(super) key: String,
    /// PyTorch's name of the dtype that it is counted in: `uint8` of an untyped one.
    pub(super) dtype: &'static str,
    /// The number of its elements.
    pub(super) numel: u64,
}

/// The tensors of a pickle by their names: keys and indices joined with dots, `bare` for a tensor alone.
pub(super) fn tensors(pickle: &[u8], bare: &str) -> Result<BTreeMap<String, TensorView>, String> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    let top = machine.run().map_err(|reason| {
        let at = pickle.len() - machine.rest.len();
        format!("data.pkl, before byte {at}: {reason}")
    })?;
    let mut names = Names { machine: &machine, name: String::new(), found: BTreeMap::new(), visits: 0 };
    match machine.values[top] {
        Value::Tensor(_) => {
            names.name.push_str(bare);
            names.visit(top, 0)?;
        }
        _ => names.visit(top, MAX_DEPTH)?,
    }
    Ok(names.found)
}

/// A value by its place among all.
type Id = usize;

enum Value<'a> {
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

/// The arguments of `torch._utils._rebuild_tensor_v2` and `_v3`.
struct Rebuilt {
    storage: Id,
    offset: Id,
    size: Id,
    strides: Id,
    /// That of the storage when left out.
    dtype: Option<&'static str>,
}

/// What a pickle may ask for by name.
#[derive(Clone, Copy)]
enum Name {
    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)`.
    RebuildV2,
    /// The same with a dtype behind the hooks.
    RebuildV3,
    /// `_rebuild_parameter(tensor, requires_grad, hooks)`, with or without a state.
    Parameter,
    /// `_rebuild_from_type_v2(function, type, arguments, state)`: of a tensor with attributes.
    FromType,
    /// The type of a plain tensor.
    TensorType,
    OrderedDict,
    /// `torch.Size(tuple)`.
    Size,
    /// The type of a storage, by the dtype of its elements.
    StorageType(&'static str),
    Dtype(&'static str),
    /// Makes something that holds no tensor.
    PlainType,
}

/// Dtypes of PyTorch by their names.
const DTYPES: [&str; 27] = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "uint16",
    "uint32",
    "uint64",
    "complex32",
    "complex64",
    "complex128",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "quint8",
    "qint8",
    "qint32",
    "quint4x2",
    "quint2x4",
];
/// Types of storages, and their dtypes.
const STORAGES: [(&str, &str); 12] = [
    ("HalfStorage", "float16"),
    ("BFloat16Storage", "bfloat16"),
    ("FloatStorage", "float32"),
    ("DoubleStorage", "float64"),
    ("LongStorage", "int64"),
    ("IntStorage", "int32"),
    ("ShortStorage", "int16"),
    ("CharStorage", "int8"),
    ("ByteStorage", "uint8"),
    ("BoolStorage", "bool"),
    ("ComplexFloatStorage", "complex64"),
    ("ComplexDoubleStorage", "complex128"),
];

impl Name {
    /// The name of a module's member.
    fn known(module: &str, member: &str) -> Option<Self> {
        Some(match (module, member) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildV2,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::Parameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::FromType,
            ("torch", "Tensor") => Self::TensorType,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch", "device") | ("torch.serialization", "_get_layout") | ("_codecs", "encode") => {
                Self::PlainType
            }
            ("builtins" | "__builtin__", "set" | "frozenset" | "complex" | "bytearray") => Self::PlainType,
            ("torch.storage", "UntypedStorage") => Self::StorageType("uint8"),
            ("torch", _) => match STORAGES.iter().find(|(name, _)| *name == member) {
                Some((_, dtype)) => Self::StorageType(dtype),
                None => Self::Dtype(DTYPES.iter().find(|dtype| **dtype == member)?),
            },
            _ => return None,
        })
    }
}

/// The stack machine.
#[derive(Default)]
struct Machine<'a> {
    /// What has not been read.
    rest: &'a [u8],
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// The heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs to the end; what is left on the stack.
    fn run(&mut self) -> Result<Id, String> {
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
    fn check(&self, count: usize) -> Result<(), String> {
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

    fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err("something that is no tuple where arguments belong".into()),
        }
    }

    /// What a function of `torch` would make, as a value that is already there or a new one.
    fn call(&mut self, function: Id, arguments: Id) -> Result<Id, String> {
        let Value::Name(name) = self.values[function] else {
            return Err("calls something that has no name: refused, nothing was executed".into());
        };
        let wrong = |what: &str| format!("{what} with other arguments than torch.save writes");
        let arguments = self.tuple(arguments)?;
        let made = match (name, arguments) {
            (Name::OrderedDict, []) => Value::Dict(Vec::new()),
            (Name::OrderedDict, _) => return Err(wrong("an OrderedDict")),
            (Name::Size, [size]) => return Ok(*size),
            (Name::PlainType, _) => Value::Plain,
            (Name::Parameter, [tensor, ..]) if matches!(self.values[*tensor], Value::Tensor(_)) => {
                return Ok(*tensor);
            }
            (Name::FromType, [function, kind, arguments, _]) => {
                let plain = matches!(self.values[*kind], Value::Name(Name::TensorType));
                let rebuild =
                    matches!(self.values[*function], Value::Name(Name::RebuildV2 | Name::RebuildV3));
                let (function, arguments) = (*function, *arguments);
                return if plain && rebuild {
                    self.call(function, arguments)
                } else {
                    Err("a tensor of a class that is not torch.Tensor".into())
                };
            }
            (Name::RebuildV2, [storage, offset, size, strides, _, _, rest @ ..]) if rest.len() <= 1 => {
                self.rebuilt([*storage, *offset, *size, *strides], None, rest)?
            }
            (Name::RebuildV3, [storage, offset, size, strides, _, _, dtype, rest @ ..])
                if rest.len() <= 1 =>
            {
                let Value::Name(Name::Dtype(dtype)) = self.values[*dtype] else {
                    return Err(wrong("a tensor"));
                };
                self.rebuilt([*storage, *offset, *size, *strides], Some(dtype), rest)?
            }
            _ => return Err(wrong("a tensor")),
        };
        self.values.push(made);
        self.check(self.values.len())?;
        Ok(self.values.len() - 1)
    }

    fn rebuilt(
        &self,
        [storage, offset, size, strides]: [Id; 4],
        dtype: Option<&'static str>,
        metadata: &[Id],
    ) -> Result<Value<'a>, String> {
        let bits =
            metadata.iter().any(|id| !matches!(&self.values[*id], Value::Dict(bits) if bits.is_empty()));
        if bits {
            return Err(
                "a tensor is a conjugated or negated view: save tensor.resolve_conj().resolve_neg()".into()
            );
        }
        Ok(Value::Tensor(Rebuilt { storage, offset, size, strides, dtype }))
    }

    /// The storage of a persistent id: `("storage", type, key, device, numel)`.
    fn storage(&self, id: Id) -> Result<Storage, String> {
        let no_storage = || "a persistent id that is not a storage's".to_string();
        let [tag, kind, key, _, numel] = self.tuple(id)? else { return Err(no_storage()) };
        match [tag, kind, key, numel].map(|id| &self.values[*id]) {
            [
                Value::Text("storage"),
                Value::Name(Name::StorageType(dtype)),
                Value::Text(key),
                Value::Int(numel),
            ] if key.len() <= MAX_KEY => {
                let numel = u64::try_from(*numel).map_err(|_| format!("a storage of {numel} elements"))?;
                Ok(Storage { key: key.escape_debug().to_string(), dtype, numel })
            }
            _ => Err(no_storage()),
        }
    }

    /// Sizes or strides.
    fn numbers(&self, id: Id, name: &str) -> Result<Vec<u64>, String> {
        let wrong = || format!("tensor `{}` has a shape or strides that are none", shown(name));
        let items = match &self.values[id] {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_AXES => items,
            _ => return Err(wrong()),
        };
        items.iter().map(|id| self.number(*id)).collect::<Option<_>>().ok_or_else(wrong)
    }

    fn number(&self, id: Id) -> Option<u64> {
        match self.values[id] {
            Value::Int(number) => number.try_into().ok(),
            _ => None,
        }
    }
}

/// What is said of a name that is not read.
fn refused(module: &str, member: &str) -> String {
    format!(
        "asks for `{}`, which is no part of a tensor: refused, nothing was executed; save dictionaries, lists and \
         tuples of tensors",
        shown(&format!("{module}.{member}"))
    )
}

/// Names the tensors in containers.
struct Names<'m, 'a> {
    machine: &'m Machine<'a>,
    /// The name of what is visited.
    name: String,
    found: BTreeMap<String, TensorView>,
    /// What is in several containers is visited as often.
    visits: usize,
}

impl Names<'_, '_> {
    /// Finds the tensors in a value, which may have containers in containers `depth` times.
    fn visit(&mut self, id: Id, depth: usize) -> Result<(), String> {
        self.visits += 1;
        self.machine.check(self.visits)?;
        let machine = self.machine;
        match &machine.values[id] {
            Value::Tensor(tensor) => self.tensor(tensor),
            Value::Tuple(items) | Value::List(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| self.item(&index.to_string(), *item, depth)),
            Value::Dict(entries) => entries.iter().try_for_each(|(key, item)| match &machine.values[*key] {
                Value::Text(key) => self.item(key, *item, depth),
                Value::Int(key) => self.item(&key.to_string(), *item, depth),
                _ => match &machine.values[*item] {
                    Value::Plain | Value::Int(_) | Value::Text(_) | Value::Name(_) => Ok(()),
                    _ => Err(format!(
                        "in `{}` a key is neither text nor a number, so that what it is for has no name",
                        shown(&self.name)
                    )),
                },
            }),
            Value::Plain | Value::Int(_) | Value::Text(_) | Value::Name(_) | Value::Storage(_) => Ok(()),
        }
    }

    /// Visits what is in a container under `key`.
    fn item(&mut self, key: &str, id: Id, depth: usize) -> Result<(), String> {
        let depth = depth.checked_sub(1).ok_or_else(|| format!("containers more than {MAX_DEPTH} deep"))?;
        let length = self.name.len();
        if length > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        check_name(&self.name)?;
        self.visit(id, depth)?;
        self.name.truncate(length);
        Ok(())
    }

    fn tensor(&mut self, tensor: &Rebuilt) -> Result<(), String> {
        let Self { machine, name, found, .. } = self;
        let wrong = || format!("tensor `{}` is not where a storage is", shown(name));
        let Value::Storage(storage) = &machine.values[tensor.storage] else { return Err(wrong()) };
        let view = TensorView {
            dtype: tensor.dtype.unwrap_or(storage.dtype),
            storage: storage.clone(),
            offset: machine.number(tensor.offset).ok_or_else(wrong)?,
            shape: machine.numbers(tensor.size, name)?,
            strides: machine.numbers(tensor.strides, name)?,
        };
        if found.insert(name.clone(), view).is_some() {
            return Err(format!("tensor `{}` is there twice", shown(name)));
        }
        if found.len() > MAX_TENSORS { Err(format!("more than {MAX_TENSORS} tensors")) } else { Ok(()) }
    }
}
