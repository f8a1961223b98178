//! What one process that measures says on its standard output, ours and other engines' alike.

use qwen3_report::bench::Workload;
use serde::{Deserialize, Serialize};

/// Everything one process measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// The form's version, 1.
    pub schema: u32,
    /// `qwen3` for ours; the engine otherwise.
    pub peer: String,
    /// Its version, and that of what it stands on.
    pub version: String,
    /// Threads it used.
    pub threads: usize,
    /// What was measured, in order.
    pub measurements: Vec<Measurement>,
    /// What was not.
    #[serde(default)]
    pub skipped: Vec<NotMeasured>,
    /// The largest resident set in MiB; `None` where the system does not tell.
    pub peak_rss_mb: Option<f64>,
    /// Memory in huge pages at the end, in MiB; `None` where the system does not tell.
    #[serde(default)]
    pub huge_pages_mb: Option<f64>,
    /// What the device can do, when it has memory of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceRates>,
}

/// The timings of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was done.
    #[serde(flatten)]
    pub workload: Workload,
    /// Seconds of the first use, which is no sample.
    pub warm_up: Option<f64>,
    /// Seconds, wall time, in order.
    pub samples: Vec<f64>,
}

/// A workload that was not measured; all of them when none is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotMeasured {
    /// Which one.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Why.
    pub reason: String,
}

/// What a device does in large operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRates {
    /// Bytes read and written in a second, in GB.
    pub gb_per_s: f64,
    /// Operations of a matrix product in a second, in 10^9.
    pub gflop_per_s: f64,
}

/// Why what a process said cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MeasurementsError {
    /// It is no JSON of this form.
    #[error("its output is not what was expected: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("its output has schema {0}, not 1")]
    Schema(u32),
    /// A number is none that a clock can give.
    #[error("it says that {workload} took {seconds} s")]
    Seconds {
        /// What was measured.
        workload: Workload,
        /// What was said.
        seconds: f64,
    },
    /// There is no sample.
    #[error("it has no sample of {0}")]
    NoSample(Workload),
}

impl Measurements {
    /// Of nothing yet.
    pub fn new(peer: &str, version: String, threads: usize) -> Self {
        Self {
            schema: 1,
            peer: peer.into(),
            version,
            threads,
            measurements: Vec::new(),
            skipped: Vec::new(),
            peak_rss_mb: None,
            huge_pages_mb: None,
            device: None,
        }
    }

    /// Reads what a process said.
    ///
    /// # Errors
    /// When it is not of this form, or has impossible numbers.
    pub fn from_json(text: &str) -> Result<Self, MeasurementsError> {
        let read: Self = serde_json::from_str(text)?;
        if read.schema != 1 {
            return Err(MeasurementsError::Schema(read.schema));
        }
        for Measurement { workload, samples, .. } in &read.measurements {
            if samples.is_empty() {
                return Err(MeasurementsError::NoSample(*workload));
            }
            if let Some(&seconds) = samples.iter().find(|seconds| !(seconds.is_finite() && **seconds > 0.0)) {
                return Err(MeasurementsError::Seconds { workload: *workload, seconds });
            }
        }
        Ok(read)
    }

    /// What is printed, on one line.
    ///
    /// # Panics
    /// Never: every field has a form in JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("every field has a form in JSON") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use qwen3_report::bench::Phase;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_is_read() {
        let mut said = Measurements::new("qwen3", "0.1".into(), 2);
        let workload = Workload { phase: Phase::Prefill, tokens: 8, context: 0, batch: 1 };
        said.measurements.push(Measurement { workload, warm_up: None, samples: vec![0.5] });
        said.skipped.push(NotMeasured { workload: Some(workload), reason: "r".into() });
        said.skipped.push(NotMeasured { workload: None, reason: "s".into() });
        assert_eq!(Measurements::from_json(&said.to_json()).unwrap(), said);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let said = |samples: serde_json::Value| {
            let measurement = json!({"phase": "decode", "tokens": 4, "context": 2, "batch": 1, "warm_up": null, "samples": samples});
            let said = json!({"schema": 1, "peer": "p", "version": "v", "threads": 1, "peak_rss_mb": null,
                              "measurements": [measurement]});
            Measurements::from_json(&said.to_string())
        };
        assert!(said(json!([0.5, 1])).is_ok());
        for samples in [json!([]), json!([0.0]), json!([-1.0]), json!([1.0, 0.0])] {
            let error = said(samples).unwrap_err().to_string();
            assert!(error.contains("decode of 4 at 2"), "{error}");
        }
        assert!(said(json!(["1"])).is_err());
        assert!(Measurements::from_json("").is_err());
    }
}
