//! The noise floors that a reference has.

use std::collections::BTreeMap;

use qwen3_config::Precision;

use crate::error::ensure;
use crate::{Floor, Reference, TraceError};

/// What the names of floors of whole runs begin with.
const WHOLE: &str = "noise_floor.";
/// What those of modules that are given the right input begin with.
const ISOLATED: &str = "noise_floor_isolated.";

/// The floors of one dtype, by the names of the tensors that they are of.
#[derive(Clone, Default)]
pub(crate) struct StoredFloors {
    /// Of a whole run.
    pub(crate) whole: BTreeMap<String, Floor>,
    /// Of modules that are given the reference's input.
    pub(crate) isolated: BTreeMap<String, Floor>,
}

impl StoredFloors {
    /// Reads `noise_floor.<dtype>.<tensor>` and `noise_floor_isolated.<dtype>.<tensor>`: largest and rms error.
    ///
    /// # Errors
    /// When a floor is not two finite numbers of at least 0.
    pub(crate) fn read(reference: &Reference, dtype: Precision) -> Result<Self, TraceError> {
        let trace = &reference.trace;
        let all = |kind: &str| {
            let prefix = format!("{kind}{dtype}.");
            let mut floors = BTreeMap::new();
            for name in trace.names() {
                let Some(tensor) = name.strip_prefix(&prefix) else {
                    continue;
                };
                // Its size first: what is no floor is not unpacked.
                let two = trace.shape(&name)?.is_some_and(|shape| shape.iter().product::<usize>() == 2);
                ensure(two, trace.path(), || format!("`{name}` is not a largest and an rms error"))?;
                let array = trace.array(&name)?.expect("it is in the list");
                let values = array.floats(&name)?;
                let good = values.iter().all(|v| v.is_finite() && *v >= 0.0);
                ensure(good, trace.path(), || format!("`{name}` is not a largest and an rms error"))?;
                let [max_abs, rms] = [values[0], values[1]].map(f64::from);
                floors.insert(tensor.to_string(), Floor { max_abs, rms });
            }
            Ok::<_, TraceError>(floors)
        };
        Ok(Self { whole: all(WHOLE)?, isolated: all(ISOLATED)? })
    }

    /// Is it the name of a floor?
    pub(crate) fn has_name(name: &str) -> bool {
        name.starts_with(WHOLE) || name.starts_with(ISOLATED)
    }

    /// The name of the floor of `tensor`.
    pub(crate) fn name(isolated: bool, dtype: Precision, tensor: &str) -> String {
        format!("{}{dtype}.{tensor}", if isolated { ISOLATED } else { WHOLE })
    }
}
