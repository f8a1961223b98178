//! What the tensors of a file are taken for: their names and layouts may be another program's.

use std::collections::BTreeMap;

use qwen3_config::{Qwen3Config, Rows, Site, Tap};
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, Sizes};
use crate::naming::{Meaning, Names, is_alias, meaning};
use crate::stored_floors::StoredFloors;
use crate::unread::OTHERS;
use crate::{Array, Trace, TraceError, Values};

/// Of a layout that is likelier than the first, the error against what is expected may be such a share of the first's.
const NEARER: f64 = 0.3;

/// Where a tensor is, and how it lies there.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Its name in the file.
    pub(crate) name: String,
    /// How its values lie; `None` where they are read as they are.
    pub(crate) layout: Option<Layout>,
    /// The shape that its key says.
    pub(crate) shape: Vec<usize>,
}

/// A tensor of a file and the key that it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its name in the file.
    pub name: String,
    /// The key of a reference.
    pub key: String,
    /// What is unusual about how its values lie, in words; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub layout: String,
}

/// What is known of a file's tensors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    /// By key, those that are not as their key says.
    pub(crate) by_key: BTreeMap<String, Reading>,
    /// Those whose names are not keys, or whose values lie in another order.
    pub(crate) taken: Vec<Taken>,
    /// Those that are known and compared with nothing, and why.
    pub(crate) left: BTreeMap<String, String>,
    /// Those of another shape than what they are called has, and what it is.
    pub(crate) misshapen: BTreeMap<String, String>,
}

/// How much a name is believed; the least is believed most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Key,
    Given,
    /// What the tensor itself is called.
    Usual,
    /// Another tensor with the same values.
    Alias,
}

/// A tensor that may be one of some sites'.
struct Candidate {
    name: String,
    rank: Rank,
    /// `step_003.`, or nothing.
    step: String,
    sites: Vec<Site>,
    packed: bool,
}

impl Trace {
    /// The same file, its tensors taken for what their names and shapes say: other programs' names ([`Names`] or those
    /// that are known) and layouts. Where two layouts are possible, values decide, if `expected` has them.
    ///
    /// # Errors
    /// When two tensors are the same, a name stands for no key, or a file is malformed.
    pub fn read_as(
        &self,
        config: &Qwen3Config,
        rows: &Rows,
        names: Option<&Names>,
        expected: Option<&Self>,
    ) -> Result<Self, TraceError> {
        let mut readings = Readings::default();
        let mut candidates = Vec::new();
        let (mut given, last) = (0, config.num_hidden_layers - 1);
        let mut all = self.names();
        all.sort_unstable();
        for name in all {
            let said = names.and_then(|names| names.key(&name));
            given += usize::from(said.is_some());
            match said {
                Some(None) => {
                    readings.left.insert(name, "not to be compared, by --names".into());
                }
                Some(Some(key)) => {
                    self.sort(&name, &key, Rank::Given, last, &mut candidates, &mut readings)?
                }
                None => self.sort(&name, &name, Rank::Key, last, &mut candidates, &mut readings)?,
            }
        }
        if let Some(names) = names.filter(|_| given == 0) {
            let reason = format!("none of its names is in {}", self.path().display());
            return Err(TraceError::malformed(names.file(), reason));
        }
        candidates.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
        let mut ranks: BTreeMap<String, (Rank, String)> = BTreeMap::new();
        for candidate in candidates {
            let Some((site, reading)) = self.reading(&candidate, config, rows, expected, &mut readings)?
            else {
                continue;
            };
            let key = format!("{}{site}", candidate.step);
            match ranks.get(&key) {
                Some((rank, other)) if *rank == candidate.rank => {
                    let reason = format!(
                        "`{}` and `{}` are both `{key}`: leave one out, or say which with --names",
                        other.escape_debug(),
                        candidate.name.escape_debug()
                    );
                    return Err(TraceError::malformed(self.path(), reason));
                }
                Some((_, other)) => {
                    readings.left.insert(candidate.name, format!("as `{}`", other.escape_debug()));
                    continue;
                }
                None => {}
            }
            ranks.insert(key.clone(), (candidate.rank, candidate.name.clone()));
            let layout = reading.layout.as_ref().map(ToString::to_string).unwrap_or_default();
            if candidate.name != key || !layout.is_empty() {
                readings.taken.push(Taken { name: candidate.name, key: key.clone(), layout });
            }
            readings.by_key.insert(key, reading);
        }
        Ok(self.with_readings(readings))
    }

    /// Puts a tensor among the candidates, if it may be a tensor of the model.
    fn sort(
        &self,
        name: &str,
        called: &str,
        rank: Rank,
        last: usize,
        candidates: &mut Vec<Candidate>,
        readings: &mut Readings,
    ) -> Result<(), TraceError> {
        let (step, rest) = without_step(called);
        let step = step.to_string();
        let mut add = |rank, sites, packed| {
            candidates.push(Candidate { name: name.into(), rank, step: step.clone(), sites, packed });
        };
        if let Ok(site) = rest.parse::<Site>() {
            add(rank, vec![site], false);
            return Ok(());
        }
        let is_other = OTHERS.contains(&rest) || StoredFloors::has_name(rest);
        let mut alias = |key: &str| {
            if name != key && !readings.by_key.contains_key(key) && !self.has(key).unwrap_or(false) {
                readings.taken.push(Taken { name: name.into(), key: key.into(), layout: String::new() });
                let reading = Reading { name: name.into(), layout: None, shape: Vec::new() };
                readings.by_key.insert(key.into(), reading);
            }
        };
        match (rank, meaning(rest)) {
            _ if is_other => alias(rest),
            (Rank::Given, _) => {
                let reason = format!(
                    "--names calls `{}` `{}`, which is no key",
                    name.escape_debug(),
                    called.escape_debug()
                );
                return Err(TraceError::malformed(self.path(), reason));
            }
            (_, Some(Meaning::Sites(sites))) => {
                let rank = if is_alias(rest) { Rank::Alias } else { Rank::Usual };
                add(rank, sites, false);
            }
            (_, Some(Meaning::LastLayer)) => {
                add(Rank::Alias, vec![Site::inside(last, Tap::LayerOutput)], false)
            }
            (_, Some(Meaning::PackedQkv(layer))) => {
                for tap in [Tap::QProj, Tap::KProj, Tap::VProj] {
                    add(Rank::Usual, vec![Site::inside(layer, tap)], true);
                }
            }
            (_, Some(Meaning::Key(key))) => alias(key),
            (_, Some(Meaning::Uncompared(what))) => {
                readings.left.insert(name.into(), what.into());
            }
            (_, None) => {}
        }
        Ok(())
    }

    /// Which site a tensor is of, and how it is read; `None` where it cannot be of any.
    fn reading(
        &self,
        candidate: &Candidate,
        config: &Qwen3Config,
        rows: &Rows,
        expected: Option<&Self>,
        readings: &mut Readings,
    ) -> Result<Option<(Site, Reading)>, TraceError> {
        let Some(shape) = self.shape(&candidate.name)? else {
            return Ok(None);
        };
        let strictly = candidate.rank == Rank::Key;
        let rows = &if candidate.step.is_empty() { rows.clone() } else { one_token(rows) };
        let [batch, seq] = rows.dims();
        let mut possible: Vec<(Site, Layout)> = Vec::new();
        for site in &candidate.sites {
            if site.layer.is_some_and(|layer| layer >= config.num_hidden_layers) {
                continue;
            }
            let sizes = Sizes::of(site.tap, config, rows);
            let sizes = if candidate.packed { sizes.packed(config) } else { sizes };
            let layouts = Layout::possible(&sizes, &shape, strictly);
            possible.extend(layouts.into_iter().map(|layout| (*site, layout)));
        }
        if candidate.sites.len() > 1 && shape.iter().filter(|size| **size != 1).count() > 2 {
            // The last of the tensors of one name, whose heads are apart.
            possible.sort_by_key(|(site, _)| std::cmp::Reverse(site.tap));
        }
        let Some((site, layout)) = possible.first().cloned() else {
            if !strictly {
                let expected = candidate.sites[0].tap.shape(config, batch, seq);
                let reason = format!("shape {shape:?}, `{}` has {expected:?}", candidate.sites[0]);
                readings.misshapen.insert(candidate.name.clone(), reason);
            }
            return Ok(None);
        };
        let (site, layout) = match expected {
            Some(expected) => self.nearest((site, layout), possible, candidate, expected)?,
            None => (site, layout),
        };
        let shape = site.tap.shape(config, batch, seq);
        let layout = Some(layout).filter(|layout| !layout.is_plain(&shape));
        Ok(Some((site, Reading { name: candidate.name.clone(), layout, shape })))
    }

    /// The layout by which a tensor's values are nearest to what is expected: the likeliest, unless another is clearly
    /// nearer.
    fn nearest(
        &self,
        likeliest: (Site, Layout),
        possible: Vec<(Site, Layout)>,
        candidate: &Candidate,
        expected: &Self,
    ) -> Result<(Site, Layout), TraceError> {
        let in_pairs = possible.iter().filter_map(|(site, layout)| Some((*site, layout.in_pairs()?)));
        let all: Vec<(Site, Layout)> = possible.iter().cloned().chain(in_pairs).collect();
        if all.len() < 2 {
            return Ok(likeliest);
        }
        let Some(Array { values: Values::Float(values), .. }) = self.array(&candidate.name)? else {
            return Ok(likeliest);
        };
        let error = |site: &Site, layout: &Layout| -> Result<f64, TraceError> {
            let wanted = expected.values(&format!("{}{site}", candidate.step))?;
            Ok(wanted.map_or(f64::INFINITY, |wanted| distance(&layout.apply(&values), &wanted)))
        };
        let mut best = (error(&likeliest.0, &likeliest.1)?, likeliest);
        let first = best.0;
        for (site, layout) in all {
            let error = error(&site, &layout)?;
            if error < best.0 && error < NEARER * first {
                best = (error, (site, layout));
            }
        }
        Ok(best.1)
    }
}

/// Norm of the difference over that of what is expected.
fn distance(values: &[f32], expected: &[f64]) -> f64 {
    let pairs = values.iter().zip(expected);
    let error: f64 = pairs.map(|(value, expected)| (f64::from(*value) - expected).powi(2)).sum();
    let size: f64 = expected.iter().map(|expected| expected * expected).sum();
    if error.is_finite() { (error / size.max(f64::MIN_POSITIVE)).sqrt() } else { f64::INFINITY }
}

/// `step_003.` and what is behind it; nothing and the name of a tensor of a prompt.
pub(crate) fn without_step(name: &str) -> (&str, &str) {
    let step = name.strip_prefix("step_").and_then(|rest| rest.split_once('.'));
    match step {
        Some((digits, rest)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.split_at(name.len() - rest.len())
        }
        _ => ("", name),
    }
}

/// The rows of a cached step: a token in each.
fn one_token(rows: &Rows) -> Rows {
    Rows::of_mask(vec![vec![true]; rows.dims()[0]])
}
