//! What the tensors of a file are taken for: their names and layouts may be another program's.

mod choice;

use std::collections::BTreeMap;

use qwen3_config::{Qwen3Config, Rows, Site, Tap};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::naming::{Meaning, Names, is_alias, meaning};
use crate::stored_floors::StoredFloors;
use crate::unread::OTHERS;
use crate::{Trace, TraceError};

/// Where a tensor is, and how it lies there.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Its name in the file.
    pub(crate) name: String,
    /// How its values lie; `None` where they are read as they are.
    pub(crate) layout: Option<Layout>,
    /// The shape that its key says.
    pub(crate) shape: Vec<usize>,
    /// The name of another of the same shape, whose values are to be added.
    pub(crate) added: Option<String>,
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
        for name in self.names() {
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

    /// The name of the tensor that the second of a pair is added to: of the first, if it has the same shape.
    fn first_of(&self, second: &str) -> Result<Option<String>, TraceError> {
        let first = second.strip_suffix('1').map(|pair| format!("{pair}0"));
        let Some(first) = first.filter(|first| self.names().contains(first)) else {
            return Ok(None);
        };
        Ok((self.shape(&first)? == self.shape(second)?).then_some(first))
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
                let reading = Reading { name: name.into(), layout: None, shape: Vec::new(), added: None };
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
            (_, Some(Meaning::Second(site))) => match self.first_of(name)? {
                Some(first) => {
                    let layout = format!("what is added to `{}`", first.escape_debug());
                    readings.taken.push(Taken { name: name.into(), key: format!("{step}{site}"), layout });
                }
                None => {
                    readings.left.insert(name.into(), "the second of what a module gave".into());
                }
            },
            (_, Some(Meaning::Key(key))) => alias(key),
            (_, Some(Meaning::Uncompared(what))) => {
                readings.left.insert(name.into(), what.into());
            }
            (_, None) => {}
        }
        Ok(())
    }
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
