//! How far the backends are from each other, and which one is alone.

use anyhow::Result;
use serde::Serialize;

use super::activations::{Activations, keys};
use crate::manifest::TestDType;
use crate::metrics;

/// Two runs compared on the last tensor that both have.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The first run.
    pub a: String,
    /// The second run.
    pub b: String,
    /// The tensor.
    pub tensor: String,
    /// Largest absolute difference; `None` when a value is not finite.
    pub max_abs: Option<f64>,
    /// Norm of the difference over norm of the first's values.
    pub relative: Option<f64>,
}

/// Who differs from all others.
#[derive(Clone, Debug, Serialize)]
pub struct Consensus {
    /// The run that is alone, if one is.
    pub outlier: Option<String>,
    /// A sentence for people.
    pub explanation: String,
}

/// A run's label, dtype, and activations.
pub type Run<'a> = (String, TestDType, &'a Activations);

/// Compares every two runs on the last tensor, in the order of computation, that all have.
///
/// # Errors
/// When a tensor is malformed.
pub fn pairs(runs: &[Run], layers: usize) -> Result<Vec<Pair>> {
    let mut common: Vec<String> = keys(layers).collect();
    for (_, _, run) in runs {
        let mut kept = Vec::new();
        for key in common {
            if run.array(&key)?.is_some() {
                kept.push(key);
            }
        }
        common = kept;
    }
    let Some(key) = common.last() else {
        return Ok(Vec::new());
    };
    let mut arrays = Vec::new();
    for (_, _, run) in runs {
        arrays.push(run.array(key)?.expect("kept above"));
    }
    let mut pairs = Vec::new();
    for a in 0..runs.len() {
        for b in a + 1..runs.len() {
            let (x, y) = (arrays[a].floats(key)?, arrays[b].floats(key)?);
            let found = metrics::compare(y, x, &arrays[a].shape, runs[a].1, |_| true);
            let finite = |value: f64| value.is_finite().then_some(value);
            pairs.push(Pair {
                a: runs[a].0.clone(),
                b: runs[b].0.clone(),
                tensor: key.clone(),
                max_abs: finite(found.max_abs),
                relative: finite(found.relative),
            });
        }
    }
    Ok(pairs)
}

/// Names the run that is far from all others while those agree, judged by the worst expected rounding:
/// differences count in units of the coarser of two dtypes.
pub fn consensus(pairs: &[Pair], runs: &[Run]) -> Option<Consensus> {
    /// How many times farther than the others are from each other.
    const ALONE: f64 = 20.0;
    /// Differences below so many epsilons are rounding.
    const ROUNDING: f64 = 100.0;
    if runs.len() < 2 {
        return None;
    }
    let epsilon = |label: &str| {
        let run = runs.iter().find(|(name, ..)| name == label);
        run.map_or(0.0, |(_, dtype, _)| dtype.epsilon())
    };
    let distance = |pair: &Pair| {
        let coarser = epsilon(&pair.a).max(epsilon(&pair.b));
        pair.relative.unwrap_or(f64::INFINITY) / (ROUNDING * coarser)
    };
    let worst = |of: &dyn Fn(&Pair) -> bool| {
        let chosen = pairs.iter().filter(|pair| of(pair)).map(distance);
        chosen.fold(0.0_f64, f64::max)
    };
    let nearest = |label: &str| {
        let own = pairs
            .iter()
            .filter(|pair| pair.a == label || pair.b == label);
        own.map(distance).fold(f64::INFINITY, f64::min)
    };
    if worst(&|_| true) <= 1.0 {
        return Some(Consensus {
            outlier: None,
            explanation: "all runs agree up to rounding".into(),
        });
    }
    if runs.len() < 3 {
        return Some(Consensus {
            outlier: None,
            explanation: "two runs differ; a third would tell which is alone".into(),
        });
    }
    for (label, ..) in runs {
        let others = worst(&|pair| pair.a != *label && pair.b != *label);
        let alone = nearest(label);
        if others <= 1.0 && alone > 1.0 && alone > ALONE * others {
            return Some(Consensus {
                outlier: Some(label.clone()),
                explanation: format!("{label} is alone; the others agree with each other"),
            });
        }
    }
    Some(Consensus {
        outlier: None,
        explanation: "the runs differ, and no single one is alone".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(a: &str, b: &str, relative: f64) -> Pair {
        Pair {
            a: a.into(),
            b: b.into(),
            tensor: "logits".into(),
            max_abs: Some(relative),
            relative: Some(relative),
        }
    }

    fn outlier(pairs: &[Pair], names: &[&str], file: &Activations) -> Option<String> {
        let runs = names
            .iter()
            .map(|name| (name.to_string(), TestDType::F32, file));
        consensus(pairs, &runs.collect::<Vec<_>>()).unwrap().outlier
    }

    #[test]
    fn the_one_that_is_alone_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.safetensors");
        std::fs::write(&file, [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).unwrap();
        let file = Activations::open(&file, "").unwrap();
        let names = ["ndarray", "flex", "wgpu"];
        let wrong = [
            pair("ndarray", "flex", 1e-7),
            pair("ndarray", "wgpu", 0.3),
            pair("flex", "wgpu", 0.3),
        ];
        assert_eq!(outlier(&wrong, &names, &file).as_deref(), Some("wgpu"));
        let right = [
            pair("ndarray", "flex", 1e-7),
            pair("ndarray", "wgpu", 2e-7),
            pair("flex", "wgpu", 2e-7),
        ];
        assert_eq!(outlier(&right, &names, &file), None);
        let all = [
            pair("ndarray", "flex", 0.1),
            pair("ndarray", "wgpu", 0.3),
            pair("flex", "wgpu", 0.2),
        ];
        assert_eq!(outlier(&all, &names, &file), None);
    }
}
