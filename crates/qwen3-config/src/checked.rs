//! Values in their ranges, and errors that name the field.

use std::collections::BTreeSet;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::Precision;
use crate::error::{ConfigError, invalid};

/// A value in its range.
pub(crate) struct Checked<T>(pub(crate) T);

/// What the value of a field may be.
pub(crate) trait Field: Sized {
    const EXPECTED: &'static str;

    fn read(value: &Value) -> Option<Self>;
}

impl<'de, T: Field> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::read(&Value::deserialize(deserializer)?);
        value.map(Self).ok_or_else(|| D::Error::custom(T::EXPECTED))
    }
}

/// A size: bounded so that products of four sizes cannot overflow 64 bits unnoticed.
impl Field for usize {
    const EXPECTED: &'static str = "an integer from 1 to 16777216";

    fn read(value: &Value) -> Option<Self> {
        let size = value.as_u64().filter(|size| (1..=1 << 24).contains(size))?;
        size.try_into().ok()
    }
}

impl Field for u64 {
    const EXPECTED: &'static str = "an integer";

    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Field for f64 {
    const EXPECTED: &'static str = "a positive number";

    fn read(value: &Value) -> Option<Self> {
        value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for Precision {
    const EXPECTED: &'static str = "\"bfloat16\", \"float16\" or \"float32\"";

    fn read(value: &Value) -> Option<Self> {
        let name = value.as_str()?.trim_start_matches("torch.");
        Self::ALL.into_iter().find(|known| known.torch_name() == name)
    }
}

/// Numbers of layers, which may be more than there are.
impl Field for BTreeSet<usize> {
    const EXPECTED: &'static str = "a list of layers' numbers";

    fn read(value: &Value) -> Option<Self> {
        let number = |value: &Value| value.as_u64().and_then(|number| number.try_into().ok());
        value.as_array()?.iter().map(number).collect()
    }
}

impl Field for Vec<Value> {
    const EXPECTED: &'static str = "a list of strings";

    fn read(value: &Value) -> Option<Self> {
        value.as_array().cloned()
    }
}

/// The value, if there is one.
pub(crate) fn given<T: Copy>(value: &Option<Checked<T>>) -> Option<T> {
    value.as_ref().map(|Checked(value)| *value)
}

/// The size, which has no default.
pub(crate) fn required(field: &'static str, value: &Option<Checked<usize>>) -> Result<usize, ConfigError> {
    given(value).ok_or_else(|| ConfigError::Missing { field: field.into() })
}

/// Reads `value`; an error names the field and the value that stands there.
pub(crate) fn deserialize<T: DeserializeOwned>(value: &Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let message = error.inner().to_string();
        // Serde's own errors tell the value as well.
        let expected = message.rsplit_once(", expected ").map_or(&message[..], |(_, end)| end);
        invalid(&error.path().to_string(), found(value, error.path()), expected)
    })
}

/// The value at the end of `path`.
fn found<'a>(value: &'a Value, path: &Path) -> &'a Value {
    path.iter().fold(value, |value, segment| match segment {
        Segment::Map { key } => &value[key],
        _ => value,
    })
}
