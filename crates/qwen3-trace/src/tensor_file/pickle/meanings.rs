//! What the names stand for that a pickle may ask for, and what `torch` would make of them.

use super::machine::{Id, Machine, Value};
use super::{MAX_AXES, MAX_KEY, Storage};
use crate::tensor_file::shown;

/// The arguments of `torch._utils._rebuild_tensor_v2` and `_v3`.
pub(super) struct Rebuilt {
    pub(super) storage: Id,
    pub(super) offset: Id,
    pub(super) size: Id,
    pub(super) strides: Id,
    /// That of the storage when left out.
    pub(super) dtype: Option<&'static str>,
}

/// What a pickle may ask for by name.
#[derive(Clone, Copy)]
pub(super) enum Name {
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
    pub(super) fn known(module: &str, member: &str) -> Option<Self> {
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

impl<'a> Machine<'a> {
    /// What a function of `torch` would make, as a value that is already there or a new one.
    pub(super) fn call(&mut self, function: Id, arguments: Id) -> Result<Id, String> {
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
    pub(super) fn storage(&self, id: Id) -> Result<Storage, String> {
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
    pub(super) fn numbers(&self, id: Id, name: &str) -> Result<Vec<u64>, String> {
        let wrong = || format!("tensor `{}` has a shape or strides that are none", shown(name));
        let items = match &self.values[id] {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_AXES => items,
            _ => return Err(wrong()),
        };
        items.iter().map(|id| self.number(*id)).collect::<Option<_>>().ok_or_else(wrong)
    }

    pub(super) fn number(&self, id: Id) -> Option<u64> {
        match self.values[id] {
            Value::Int(number) => number.try_into().ok(),
            _ => None,
        }
    }
}

/// What is said of a name that is not read.
pub(super) fn refused(module: &str, member: &str) -> String {
    format!(
        "asks for `{}`, which is no part of a tensor: refused, nothing was executed; save dictionaries, lists and \
         tuples of tensors",
        shown(&format!("{module}.{member}"))
    )
}
