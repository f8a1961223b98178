//! How far the backends are from each other, and which one is alone.

use qwen3_config::{Precision, Site};
use serde::{Deserialize, Serialize};

use crate::{Trace, TraceError, metrics};

/// Two runs compared on the last tensor that both have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consensus {
    /// Are all runs the same up to rounding?
    pub agree: bool,
    /// The run that is alone, if one is.
    pub outlier: Option<String>,
    /// A sentence for people.
    pub explanation: String,
}

/// A run that is compared with others.
pub struct Voter<'a> {
    /// Its name.
    pub label: String,
    /// The dtype it computes in.
    pub dtype: Precision,
    /// Is it a backend as it is built, and not a variant? Variants have no vote on who is alone.
    pub votes: bool,
    /// What came out.
    pub trace: &'a Trace,
}

/// Compares every two runs on the last tensor, in the order of computation, that all have.
///
/// # Errors
/// When a tensor is malformed.
pub fn pairs(runs: &[Voter], layers: usize) -> Result<Vec<Pair>, TraceError> {
    let mut common: Vec<String> = Site::all(layers).map(|site| site.to_string()).collect();
    for run in runs {
        let mut kept = Vec::new();
        for key in common {
            if run.trace.has(&key)? {
                kept.push(key);
            }
        }
        common = kept;
    }
    let Some(key) = common.last() else {
        return Ok(Vec::new());
    };
    let mut arrays = Vec::new();
    for run in runs {
        arrays.push(run.trace.array(key)?.expect("kept above"));
    }
    let mut pairs = Vec::new();
    for a in 0..runs.len() {
        for b in a + 1..runs.len() {
            let (x, y) = (arrays[a].floats(key)?, arrays[b].floats(key)?);
            let found = metrics::compare(y, x, &arrays[a].shape, runs[a].dtype, |_| true);
            let finite = |value: f64| value.is_finite().then_some(value);
            pairs.push(Pair {
                a: runs[a].label.clone(),
                b: runs[b].label.clone(),
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
pub fn consensus(pairs: &[Pair], runs: &[Voter]) -> Option<Consensus> {
    /// How many times farther than the others are from each other.
    const ALONE: f64 = 20.0;
    /// Differences below so many epsilons are rounding.
    const ROUNDING: f64 = 100.0;
    if runs.len() < 2 {
        return None;
    }
    let epsilon = |label: &str| {
        let run = runs.iter().find(|run| run.label == label);
        run.map_or(0.0, |run| run.dtype.epsilon())
    };
    let distance = |pair: &Pair| {
        let coarser = epsilon(&pair.a).max(epsilon(&pair.b));
        pair.relative.unwrap_or(f64::INFINITY) / (ROUNDING * coarser)
    };
    let voters: Vec<&str> = runs.iter().filter(|r| r.votes).map(|r| &r.label[..]).collect();
    // Of a run and each of the voters but itself.
    let to_voters = |label: &str, but: &str| {
        let counts = |other: &str| voters.contains(&other) && other != but;
        let own = pairs
            .iter()
            .filter(move |pair| (pair.a == label && counts(&pair.b)) || (pair.b == label && counts(&pair.a)));
        own.map(distance).collect::<Vec<_>>()
    };
    let farthest = |distances: Vec<f64>| distances.into_iter().fold(0.0_f64, f64::max);
    let nearest = |distances: Vec<f64>| distances.into_iter().fold(f64::INFINITY, f64::min);
    let differ =
        |explanation: &str| Consensus { agree: false, outlier: None, explanation: explanation.into() };
    if pairs.iter().map(distance).fold(0.0_f64, f64::max) <= 1.0 {
        return Some(Consensus { agree: true, ..differ("all runs agree up to rounding") });
    }
    for label in &voters {
        let others = voters.iter().filter(|other| *other != label);
        let others = farthest(others.flat_map(|other| to_voters(other, label)).collect());
        let alone = nearest(to_voters(label, ""));
        if voters.len() > 2 && others <= 1.0 && alone > 1.0 && alone > ALONE * others {
            let cured = runs.iter().filter(|run| !run.votes && run.label.starts_with(*label));
            let cured = cured.filter(|run| farthest(to_voters(&run.label, label)) <= 1.0);
            let cured: String = cured.map(|run| format!("; {} agrees with them", run.label)).collect();
            return Some(Consensus {
                outlier: Some(label.to_string()),
                ..differ(&format!("{label} is alone; the others agree with each other{cured}"))
            });
        }
    }
    let voters_agree = voters.iter().all(|label| farthest(to_voters(label, "")) <= 1.0);
    let mut variants = runs.iter().filter(|run| !run.votes);
    if voters_agree && let Some(run) = variants.find(|run| nearest(to_voters(&run.label, "")) > 1.0) {
        return Some(Consensus {
            outlier: Some(run.label.clone()),
            ..differ(&format!("{} is alone; the others agree", run.label))
        });
    }
    Some(differ(match voters.len() {
        0..=2 => "two runs differ; a third would tell which is alone",
        _ => "the runs differ, and no single one is alone",
    }))
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

    fn found(pairs: &[Pair], names: &[&str]) -> Consensus {
        let nothing = Trace::recorded(std::path::Path::new("nowhere"), "");
        let runs = names.iter().map(|name| Voter {
            label: name.to_string(),
            dtype: Precision::F32,
            votes: !name.contains('('),
            trace: &nothing,
        });
        consensus(pairs, &runs.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_one_that_is_alone_is_named() {
        let names = ["ndarray", "flex", "wgpu"];
        let wrong = [pair("ndarray", "flex", 1e-7), pair("ndarray", "wgpu", 0.3), pair("flex", "wgpu", 0.3)];
        assert_eq!(found(&wrong, &names).outlier.as_deref(), Some("wgpu"));
        let right =
            [pair("ndarray", "flex", 1e-7), pair("ndarray", "wgpu", 2e-7), pair("flex", "wgpu", 2e-7)];
        let found_right = found(&right, &names);
        assert!(found_right.agree && found_right.outlier.is_none());
        let all = [pair("ndarray", "flex", 0.1), pair("ndarray", "wgpu", 0.3), pair("flex", "wgpu", 0.2)];
        let found_all = found(&all, &names);
        assert!(!found_all.agree && found_all.outlier.is_none());
    }

    /// Three builds of one wrong backend are not a majority.
    #[test]
    fn variants_have_no_vote() {
        let bare = "wgpu (without fusion)";
        let names = ["ndarray", "flex", "wgpu", bare];
        let mut pairs = vec![
            pair("ndarray", "flex", 1e-7),
            pair("ndarray", "wgpu", 0.3),
            pair("flex", "wgpu", 0.3),
            pair("ndarray", bare, 0.3),
            pair("flex", bare, 0.3),
            pair("wgpu", bare, 1e-7),
        ];
        let both = found(&pairs, &names);
        assert_eq!(both.outlier.as_deref(), Some("wgpu"));
        assert!(!both.explanation.contains(bare), "{}", both.explanation);
        for (pair, relative) in pairs.iter_mut().zip([1e-7, 0.3, 0.3, 1e-7, 1e-7, 0.3]) {
            pair.relative = Some(relative);
        }
        let cured = found(&pairs, &names);
        assert_eq!(cured.outlier.as_deref(), Some("wgpu"));
        assert!(cured.explanation.contains(bare), "{}", cured.explanation);
        for (pair, relative) in pairs.iter_mut().zip([1e-7, 1e-7, 1e-7, 0.3, 0.3, 0.3]) {
            pair.relative = Some(relative);
        }
        assert_eq!(found(&pairs, &names).outlier.as_deref(), Some(bare));
        let two = found(&pairs[1..2], &["ndarray", "wgpu"]);
        assert!(two.agree);
    }
}
